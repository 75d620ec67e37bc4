"""The last that a stream's reader gets, while much of it is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from inference_gateway.http.body_limit import InFlight
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.predictions.streaming import endings
from inference_gateway.predictions.streaming.endings import Endings, StreamEnd

MOST = 1000
LARGE = StreamEnd(cast("Row", {}), 400)  # What is in it does not matter.
PIECE = b"x" * 50_000
Read = Callable[[str], AsyncIterator[bytes]]


def pieces(_: Any) -> Iterator[bytes]:
    return iter([PIECE] * 3)


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(MOST)


@pytest.fixture
def read(in_flight: InFlight) -> Iterator[Read]:
    made = Endings(in_flight, most=4)
    yield lambda owner: made.events(owner, LARGE, pieces)
    made.close()


async def test_what_is_read_has_its_part_of_the_memory_until_it_is_read(read: Read) -> None:
    first = read("ada")
    await anext(first)
    with pytest.raises(ConnectionResetError, match="MAX_BYTES_IN_FLIGHT"):
        await anext(read("bob"))
    async for _ in first:
        pass
    assert b"".join([piece async for piece in read("bob")]) == 3 * PIECE


async def test_who_does_not_read_keeps_no_memory(
    read: Read, in_flight: InFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "_READ_SECONDS", -3600)
    with pytest.raises(ConnectionResetError, match="does not read"):
        await anext(read("ada"))
    in_flight.take("ada", MOST // 2)


async def test_who_reads_much_has_the_time_for_it(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "_READ_SECONDS", -3600)
    monkeypatch.setattr(endings, "_SLOWEST_BYTES_PER_SECOND", 1)
    assert b"".join([piece async for piece in read("ada")]) == 3 * PIECE
