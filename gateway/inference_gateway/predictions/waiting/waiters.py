"""Waiters for a prediction, registered with the event hub."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from inference_gateway.auth.accounts import Principal
from inference_gateway.http.callback_queue import CallbackQueue
from inference_gateway.lifecycle.prediction import End, Row, State

_MAX_BUFFERED = 256
"""Entries that are buffered for a slow reader."""
_MAX_BUFFERED_BYTES = 262_144


class Ended(NamedTuple):
    """The committed end of a prediction."""

    columns: End | State
    """Columns of its row: all, or those that the end has set."""
    is_whole: bool = True
    """If False, the row must be read for its output and logs, which may be large."""

    def of(self, row: State) -> Row:
        """The row as it ended; of one that is whole."""
        return cast("Row", {**row, **self.columns})


class Waiter:
    """Waits for the end of one prediction.

    `end` is None when the hub stops, or at the caller's own timeout.

    Args:
        caller: the wait ends when this caller's token ends.
    """

    __slots__ = ("caller", "end", "prediction_id")

    def __init__(self, prediction_id: str, caller: Principal | None = None) -> None:
        self.prediction_id = prediction_id
        self.caller = caller
        self.end: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()

    def resolve(self, end: Ended | None) -> None:
        if not self.end.done():
            self.end.set_result(end)


class StreamEntry(NamedTuple):
    """An entry of a prediction's own stream."""

    id: bytes
    data: bytes


class StreamWaiter(Waiter):
    """A waiter that also wants the entries of the prediction's own stream.

    A slow reader loses buffered entries: `take` then returns None, and the reader reads the stream
    from its position.

    Args:
        callbacks: shared by all waiters: one entry may have thousands of readers.
    """

    __slots__ = ("_callbacks", "_entries", "_is_told", "_news", "_overflowed", "_size", "key")

    def __init__(
        self,
        key: str,
        prediction_id: str,
        caller: Principal | None = None,
        callbacks: CallbackQueue | None = None,
    ) -> None:
        super().__init__(prediction_id, caller)
        self.key = key
        self._entries: list[StreamEntry] = []
        self._size = 0
        self._overflowed = True
        self._news = asyncio.Event()
        self._is_told = False
        """Whether the reader was notified since its last `take`."""
        self._callbacks = callbacks or CallbackQueue()

    def push(self, entries: list[StreamEntry]) -> None:
        self._size += sum(len(entry.data) for entry in entries)
        too_many = len(self._entries) + len(entries) > _MAX_BUFFERED
        if too_many or self._size > _MAX_BUFFERED_BYTES:
            self._entries, self._overflowed = [], True
        elif not self._overflowed:
            self._entries += entries
        self._tell()

    def resolve(self, end: Ended | None) -> None:
        super().resolve(end)
        self._tell()

    def take(self) -> list[StreamEntry] | None:
        """The entries since the last call; None at the first call and after an overflow: read the
        stream instead."""
        self._news.clear()
        self._is_told = False
        taken = None if self._overflowed else self._entries
        self._entries, self._overflowed, self._size = [], False, 0
        return taken

    def lose(self) -> None:
        """The taken entries could not be used: the next `take` returns None."""
        self._overflowed = True
        self._tell()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._callbacks.run(self._news.set)

    async def news(self, seconds: float) -> bool:
        """Wait for entries or the end. Returns False after a timeout."""
        try:
            async with asyncio.timeout(seconds):
                return await self._news.wait()
        except TimeoutError:
            return False
