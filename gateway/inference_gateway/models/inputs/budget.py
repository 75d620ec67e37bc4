"""Limits the cost of checking an input: it grows with the product of schema and input."""

from __future__ import annotations

import time

INLINE_STEPS = 3000
"""Steps in about a millisecond. Inputs that need more are checked on a thread."""
_SLICE_STEPS = 1000
_NAP_SECONDS = 0.0005


class TooCostly(Exception):
    """The budget ended before the check."""


class Budget:
    """Steps that a check may take; a step is one schema on one value."""

    __slots__ = ("_left",)

    def __init__(self, steps: int = INLINE_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Raises TooCostly."""
        self._left -= steps
        if self._left < 0:
            self._left = self._more()

    def _more(self) -> int:
        raise TooCostly


class ThreadBudget(Budget):
    """A limit of the thread's CPU time, with a pause after each slice: otherwise the event loop
    would wait for the GIL at each of its iterations."""

    __slots__ = ("_until",)

    def __init__(self, seconds: float) -> None:
        super().__init__(_SLICE_STEPS)
        self._until = time.thread_time() + seconds

    def _more(self) -> int:
        if time.thread_time() > self._until:
            raise TooCostly
        time.sleep(_NAP_SECONDS)
        return _SLICE_STEPS
