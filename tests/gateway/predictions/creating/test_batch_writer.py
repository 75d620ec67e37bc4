"""Which predictions are stored together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import psycopg2
import pytest

from inference_gateway.errors import Unavailable
from inference_gateway.predictions.creating import batch_writer as module
from inference_gateway.predictions.creating.batch_writer import BatchWriter, NewPrediction

Eventually = Callable[..., Any]


class Store:
    """Stores nothing; tells of which batches, and waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def insert(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.batches.append([row["id"] for row in rows])
        await self.may_go_on.wait()
        if self.error is not None:
            raise self.error
        return list(rows)

    def hurry(self) -> None:
        pass

    close = hurry


class Queues:
    """Takes everything."""

    async def enqueue(self, model: str, rows: object) -> None:
        pass

    def add(self, model: str, count: int) -> None:
        pass


class Writing:
    def __init__(self) -> None:
        self.store, self.waiting = Store(), 0
        queues: Any = Queues()
        stores: Any = [self.store]
        self.writer = BatchWriter(stores, queues, queues, lambda: self.waiting)

    def put(self, names: str) -> None:
        for name in names:
            row: Any = {"id": name, "model": "ada/echo", "idempotency_key": None}
            future = asyncio.get_running_loop().create_future()
            self.writer.put(NewPrediction(row, 1, future))

    @property
    def batches(self) -> list[str]:
        return ["".join(names) for names in self.store.batches]


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    made = Writing()
    made.writer.start()
    await _a_few_turns()
    yield made
    made.store.may_go_on.set()
    await made.writer.stop()


@pytest.fixture
def patient(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> Writing:
    """One that waits for others as long as it takes."""
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 3600)
    return writing


async def _a_few_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_that_is_alone_is_stored_at_once(patient: Writing) -> None:
    patient.waiting = 1  # its own caller
    patient.put("a")
    await _a_few_turns()
    assert patient.batches == ["a"]


async def test_few_of_many_who_wait_are_stored_with_those_who_come_next(patient: Writing) -> None:
    patient.waiting = 8
    patient.put("abc")
    await _a_few_turns()
    assert patient.batches == []
    patient.put("d")
    await _a_few_turns()
    assert patient.batches == ["abcd"]


async def test_few_are_stored_though_nobody_comes(writing: Writing, eventually: Eventually) -> None:
    writing.waiting = 1000
    writing.put("a")
    await eventually(lambda: writing.batches == ["a"])


async def test_what_comes_while_a_batch_is_stored_is_the_next(
    writing: Writing, eventually: Eventually
) -> None:
    writing.store.may_go_on.clear()
    writing.put("a")
    await _a_few_turns()
    writing.put("b")
    await _a_few_turns()
    writing.put("cd")
    assert writing.batches == ["a"]
    writing.store.may_go_on.set()
    await eventually(lambda: writing.batches == ["a", "bcd"])


async def test_a_writer_that_stops_stores_what_waits(patient: Writing) -> None:
    patient.waiting = 1000
    patient.put("ab")
    await patient.writer.stop()
    assert patient.batches == ["ab"]


async def test_an_error_that_comes_just_when_a_caller_has_waited_long_enough_is_told(
    writing: Writing, eventually: Eventually
) -> None:
    row: Any = {"id": "a", "model": "ada/echo", "idempotency_key": None, "created_at": None}
    new = NewPrediction(row, 1, asyncio.get_running_loop().create_future(), quiet=True)
    writing.store.error = psycopg2.OperationalError("no")
    writing.writer.put(new)
    new.future.set_result(None)  # Its caller runs in the loop's next turn, or the one after.
    await eventually(lambda: writing.batches == ["a"])
    await _a_few_turns()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(new.stored(), 5)
