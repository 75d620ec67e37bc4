"""Ends the process when the model's code runs past its time and cannot be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `expired` on its own thread, at most once, if a guarded block takes too long."""

    def __init__(self, expired: Callable[[], None], every: float = 0.25) -> None:
        self._expired, self._every = expired, every
        self._deadline: float | None = None
        threading.Thread(target=self._loop, name="watchdog", daemon=True).start()

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:
        """Not reentrant: one block at a time."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    @property
    def armed(self) -> bool:
        """Whether a guarded block is running within its time."""
        return self._deadline is not None

    def _loop(self) -> None:
        while True:
            time.sleep(self._every)
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._expired()
                return
