"""Rows of predictions for many who ask at once, without what may be large."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from uuid import UUID

from inference_gateway.lifecycle.wire import Row

AT_ONCE = 64
"""Whoever asked goes on in one turn of the event loop."""


class Wanted(NamedTuple):
    id: UUID
    """The prediction's own, or the one that its owner chose."""
    owner: str
    """The id of an account."""


Lookup = Callable[[Collection[Wanted]], Mapping[Wanted, Row]]
"""Those that are there. Blocks."""


class States:
    """Who asks while a query is under way shares the next. For one event loop."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._waiting: deque[tuple[Wanted, asyncio.Future[Row | None]]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def find(self, prediction_id: UUID, owner: str) -> Row | None:
        """As it is from now on, or later."""
        found: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
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

    async def _answer(self, asked: list[tuple[Wanted, asyncio.Future[Row | None]]]) -> None:
        failed: Exception | None = None
        rows: Mapping[Wanted, Row] = {}
        try:
            rows = await asyncio.to_thread(self._lookup, {wanted for wanted, _ in asked})
        except Exception as error:
            failed = error
        for wanted, found in asked:
            if found.done():  # Its caller is gone.
                continue
            if failed is not None:
                found.set_exception(failed)
            else:
                found.set_result(rows.get(wanted))
