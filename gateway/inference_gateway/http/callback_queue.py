"""Spreads bursts of work over several iterations of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Work = Callable[[], object]

_MOST = 16
"""A request takes some tenths of a millisecond until its first await."""


class CallbackQueue:
    """For one event loop.

    Args:
        most: pieces of work in one iteration.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._done = 0
        """Pieces done in this iteration; while it is not 0, `_next` is scheduled."""
        self._first: deque[Work] = deque()
        self._others: deque[Work] = deque()

    def run(self, work: Work, *, first: bool = False) -> None:
        """Run the work now or, when this iteration is full, in a later one, in order.

        Args:
            first: before all waiting work without `first`.
        """
        if self._done == self._most or (self._others and not first):
            (self._first if first else self._others).append(work)
            return
        if not self._done:
            asyncio.get_running_loop().call_soon(self._next)
        self._done += 1
        work()

    def _next(self) -> None:
        self._done = 0
        if not self._first and not self._others:
            return
        asyncio.get_running_loop().call_soon(self._next)
        while self._done < self._most and (waiting := self._first or self._others):
            self._done += 1
            waiting.popleft()()
