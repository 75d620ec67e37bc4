"""Threads for work that would block the event loop, shared fairly among callers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from inference_gateway.errors import TooManyRequests, Unavailable

T = TypeVar("T")
_RETRY = {"Retry-After": "2"}


class Lane:
    """A thread with a queue for each caller, served round-robin. For one event loop.

    Args:
        what: name of the work, for error messages.
        most_waiting: jobs that may wait in all; beyond: 503.
        most_of_one: jobs of one caller that may wait; beyond: 429.
    """

    def __init__(
        self, what: str, threads: int = 1, most_waiting: int = 200, most_of_one: int = 20
    ) -> None:
        self._what = what
        self._most_waiting = most_waiting
        self._most_of_one = most_of_one
        self._free = threads
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=what.split()[0])

    async def run(self, caller: str, function: Callable[..., T], *arguments: object) -> T:
        """Raises TooManyRequests, Unavailable."""
        await self._turn(caller)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, lambda: function(*arguments))
        # Even if the caller is canceled, the thread is free only when the work is done.
        work.add_done_callback(lambda _: self._next())
        return await asyncio.shield(work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, caller: str) -> None:
        if self._free:
            self._free -= 1
            return
        mine = self._waiting.setdefault(caller, deque())
        if len(mine) >= self._most_of_one:
            raise TooManyRequests(f"{self._what}: yours wait already, try again", headers=_RETRY)
        if self._count >= self._most_waiting:
            if not mine:
                del self._waiting[caller]
            raise Unavailable(f"{self._what}: too many wait, try again", headers=_RETRY)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine.append(turn)
        self._count += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        while self._waiting:
            caller, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            self._count -= 1
            if turns:
                self._waiting[caller] = turns  # To the end of the round.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
