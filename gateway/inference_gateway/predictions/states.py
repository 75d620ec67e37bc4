"""Rows of predictions without their large columns; concurrent requests share a query."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from uuid import UUID

from inference_gateway.lifecycle.prediction import State

AT_ONCE = 64
"""Ids in one query: all its requests go on in one iteration of the event loop."""


class Wanted(NamedTuple):
    id: UUID
    """The generated id, or the one that the owner chose."""
    owner: str
    """The id of an account."""


Lookup = Callable[[Collection[Wanted]], Mapping[Wanted, State]]
"""Returns the existing rows. Blocks."""


class States:
    """Requests during a running query share the next one. For one event loop."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._waiting: deque[tuple[Wanted, asyncio.Future[State | None]]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def find(self, prediction_id: UUID, owner: str) -> State | None:
        """The row as of now or later."""
        found: asyncio.Future[State | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((Wanted(prediction_id, owner), found))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="states")
        return await found

    async def _read(self) -> None:
        try:
            while self._waiting:
                count = min(AT_ONCE, len(self._waiting))
                await self._answer([self._waiting.popleft() for _ in range(count)])
        finally:
            self._reading = None

    async def _answer(self, asked: list[tuple[Wanted, asyncio.Future[State | None]]]) -> None:
        failed: Exception | None = None
        rows: Mapping[Wanted, State] = {}
        try:
            rows = await asyncio.to_thread(self._lookup, {wanted for wanted, _ in asked})
        except Exception as error:
            failed = error
        for wanted, found in asked:
            if found.done():  # Its caller was canceled.
                continue
            if failed is not None:
                found.set_exception(failed)
            else:
                found.set_result(rows.get(wanted))
