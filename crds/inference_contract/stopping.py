"""A process that was told to stop ends within its grace period, whatever its servers do."""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue

log = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 0.5
"""Nobody may read what is logged."""


class Stopping:
    """A thread that ends the process if it has not ended by itself.

    A thread that waits for an answer in C, as psycopg2's do, cannot be stopped, and Python waits
    for those of its executors: in `asyncio.run` for five minutes, at its exit for ever. Nothing is
    lost by not waiting: what was answered is stored, and the rest is done again by others.

    Args:
        seconds: from `begin` to the end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: SimpleQueue[None] = SimpleQueue()  # Which a signal's handler may write to.
        threading.Thread(target=self._run, name="stopping", daemon=True).start()

    def begin(self) -> None:
        """From now on the time counts; what comes after the first does not."""
        self._begun.put(None)

    def _run(self) -> None:
        self._begun.get()
        time.sleep(self._seconds)
        words = threading.Thread(target=self._say, daemon=True)
        words.start()
        words.join(_LAST_WORDS_SECONDS)
        os._exit(0)

    def _say(self) -> None:
        log.warning("ended without what still waits for an answer after %.0f s", self._seconds)
