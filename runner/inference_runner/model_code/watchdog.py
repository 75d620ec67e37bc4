"""Threads that watch code which may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 0.2
"""Seconds between two checks."""


def every(seconds: float, look: Callable[[], None], name: str) -> None:
    """Call `look` periodically on a thread."""

    def loop() -> None:
        while True:
            time.sleep(seconds)
            look()

    threading.Thread(target=loop, name=name, daemon=True).start()


class Watchdog:
    """Calls `expired` on its own thread, at most once, if a guarded block takes too long."""

    def __init__(self, expired: Callable[[], None]) -> None:
        self._expired = expired
        self._deadline: float | None = None
        every(EVERY, self._look, "watchdog")

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:
        """Not reentrant: one block at a time."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def _look(self) -> None:
        deadline = self._deadline
        if deadline is not None and time.monotonic() > deadline:
            self._deadline = None
            self._expired()
