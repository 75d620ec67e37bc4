"""Loops, each on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from inference_contract import backoff
from inference_gateway.dispatch.metrics import FAILURES

_log = logging.getLogger(__name__)
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 1.0
_HUNG_AFTER = 60.0

Step = Callable[[], float]
"""One round; returns how many seconds to pause."""


class Loop:
    """Calls `step` repeatedly; an exception is logged, and the loop goes on.

    Args:
        wake: setting it ends a pause early; `stop` sets it too.
    """

    def __init__(self, name: str, step: Step, wake: threading.Event | None = None) -> None:
        self.name = name
        self._step = step
        self._wake = wake or threading.Event()
        self._stopping = False
        self._failures = 0
        self._last_round = self._last_progress = time.monotonic()
        self._rests = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float) -> None:
        self._thread.join(max(timeout, 0))

    @property
    def is_alive(self) -> bool:
        """False when a round hangs. A loop whose rounds fail is alive."""
        return time.monotonic() - self._last_round < _HUNG_AFTER

    @property
    def works(self) -> bool:
        """Whether the last round succeeded."""
        return self.is_alive and self._failures == 0

    @property
    def silence(self) -> float:
        """Seconds since the last successful round; 0 during the pause after one."""
        return 0.0 if self._rests else time.monotonic() - self._last_progress

    def _run(self) -> None:
        while not self._stopping:
            self._rests = False
            pause = self._round()
            self._rests = self._failures == 0
            self._last_round = time.monotonic()
            # wait(0) costs ten times as much as is_set().
            if not self._stopping and (self._wake.wait(pause) if pause else self._wake.is_set()):
                self._wake.clear()

    def _round(self) -> float:
        try:
            pause = self._step()
        except Exception as error:  # the loop must go on for other predictions
            self._failures += 1
            FAILURES.labels(self.name).inc()
            pause = backoff.pause(self._failures, _FIRST_BACKOFF, _MAX_BACKOFF)
            # Only the first of a series has a traceback: an outage would fill the log.
            summary = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            _log.warning(
                "%s failed, again in %.1f s: %s",
                *(self.name, pause, summary),
                exc_info=error if self._failures == 1 else None,
            )
            return pause
        if self._failures:
            _log.info("%s works again", self.name)
        self._failures = 0
        self._last_progress = time.monotonic()
        return pause
