"""Makes a stopping process end within its grace period, even if servers do not answer."""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue

log = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 0.5
"""Time for the last log line, which may block."""


class Stopping:
    """A thread that ends the process if it has not ended by itself.

    A thread that waits for a reply in C, as psycopg2's do, cannot be stopped, and Python waits for
    the threads of executors: in `asyncio.run` for five minutes, at exit for ever. Not waiting loses
    nothing: acknowledged work is stored, other processes repeat the rest.

    Args:
        seconds: from `begin` to the end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: SimpleQueue[None] = SimpleQueue()  # Safe in a signal handler.
        threading.Thread(target=self._run, name="stopping", daemon=True).start()

    def begin(self) -> None:
        """Start the time; later calls have no effect."""
        self._begun.put(None)

    def _run(self) -> None:
        self._begun.get()
        time.sleep(self._seconds)
        words = threading.Thread(target=self._warn, daemon=True)
        words.start()
        words.join(_LAST_WORDS_SECONDS)
        os._exit(0)

    def _warn(self) -> None:
        log.warning("ended without what still waits for an answer after %.0f s", self._seconds)
