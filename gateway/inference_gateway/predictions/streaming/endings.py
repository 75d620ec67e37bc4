"""The last events of a stream, from its row, which may be large: encoded piece by piece while the
client reads.

All pieces are encoded on one thread, shared fairly among accounts: each call into C holds the GIL,
and with two threads the event loop would wait for both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NamedTuple

from inference_gateway.background.lanes import Lane
from inference_gateway.errors import GatewayError, TooLarge
from inference_gateway.http.body_limit import SMALL_BYTES, InFlight, check_values
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.postgres import stored

Events = Callable[[Row], Iterator[bytes]]
_MAX_VALUES = 500_000
_BYTES_OF_A_VALUE = 64
_READ_SECONDS = 30.0
_SLOWEST_BYTES_PER_SECOND = 50_000
"""The time to read: a fixed part, plus the size at this rate, as for any large response."""


class StreamEnd(NamedTuple):
    row: Row
    """Its output is `stored.PassedOn` if it has too many values to be split."""
    size: int
    """Approximate bytes of its output in memory."""


def ending(row: Row) -> StreamEnd:
    """Takes long."""
    if not isinstance(row["output"], stored.PassedOn):
        return StreamEnd(row, len(row["logs"]))
    content = row["output"].content
    if content.startswith(b'"'):
        output = stored.decode(stored.as_text(content))
        return StreamEnd({**row, "output": output}, sys.getsizeof(output))
    try:
        check_values(content, _MAX_VALUES)
    except TooLarge:
        return StreamEnd(row, 0)
    count = min(_MAX_VALUES, content.count(b",") + content.count(b"[") + content.count(b"{"))
    output = stored.decode(stored.as_text(content))
    return StreamEnd({**row, "output": output}, len(content) + count * _BYTES_OF_A_VALUE)


class Endings:
    """For one event loop.

    Args:
        most: the maximum of open streams.
    """

    def __init__(self, in_flight: InFlight, most: int) -> None:
        self._in_flight = in_flight
        self._lane = Lane("ends of streams", most_waiting=most, most_of_one=most)

    async def events(
        self, owner: str, ending: StreamEnd, events: Events
    ) -> AsyncGenerator[bytes, None]:
        """Raises ConnectionResetError: the client must reconnect, or does not read."""
        try:
            self._in_flight.take(owner, ending.size)
        except GatewayError as error:
            raise ConnectionResetError(error.detail) from None
        try:
            pieces = events(ending.row)
            size, until, is_last = 0, time.monotonic() + _READ_SECONDS, False
            while not is_last:
                piece, is_last = await self._lane.run(owner, next_piece, pieces)
                size += len(piece)
                if time.monotonic() > until + size / _SLOWEST_BYTES_PER_SECOND:
                    raise ConnectionResetError("the client does not read its stream")
                if piece:
                    yield piece
        finally:
            self._in_flight.give(owner, ending.size)

    def close(self) -> None:
        self._lane.close()


def next_piece(events: Iterator[bytes]) -> tuple[bytes, bool]:
    """Some events or parts of events, and whether they are the last."""
    taken, size = [], 0
    for event in events:
        taken.append(event)
        size += len(event)
        if size > SMALL_BYTES // 2:
            return b"".join(taken), False
    return b"".join(taken), True
