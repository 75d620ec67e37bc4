"""Logs the progress of a download periodically."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD = 2.0
"""Seconds between two lines, at least."""


class Progress:
    """A monotonic counter of bytes for several threads.

    Args:
        report: called with the bytes so far, and their percentage.
    """

    def __init__(
        self,
        done: int,
        total: int,
        report: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = done
        self._total = total
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._said_at = 0.0

    def begin(self) -> None:
        with self._lock:
            self._speak()

    def reach(self, done: int) -> None:
        """Report the new count if it is due; the end is reported by `end`."""
        with self._lock:
            if not self.done < done < self._total:
                return
            self.done = done
            if self._clock() - self._said_at >= PERIOD:
                self._speak()

    def end(self) -> None:
        with self._lock:
            self.done = self._total
            self._speak()

    def _speak(self) -> None:
        self._said_at = self._clock()
        percent = 100 * self.done // self._total if self._total else 100
        self._report(self.done, percent)
