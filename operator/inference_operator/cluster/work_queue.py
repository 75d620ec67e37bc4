"""A rate-limited work queue. kopf only logs the errors of event handlers and does not retry them.

A key is in flight once at a time; a key that is put meanwhile is processed again. Failed keys are
retried with a growing backoff, and every key is processed after `resync` seconds at the latest.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable
from itertools import count
from math import inf

from inference_contract import backoff
from inference_operator.cluster.api.objects import Key

FIRST_RETRY = 0.5
MAX_RETRY = 300.0
_JITTER = 0.2

log = logging.getLogger(__name__)


class Schedule:
    """When each key is due. Without threads and clock: callers pass all times, in seconds."""

    def __init__(self, resync: float, jitter: Callable[[], float] = random.random) -> None:
        self._resync = resync
        self._jitter = jitter
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()
        self._failures: dict[Key, int] = {}
        self.in_flight: dict[Key, float] = {}
        """Key → since when."""

    def put(self, key: Key, at: float) -> None:
        """The key is due at this time, or earlier if it was already."""
        if self._due.get(key, at + 1) <= at:
            return
        self._due[key] = at
        if key not in self.in_flight:
            heapq.heappush(self._heap, (at, next(self._order), key))

    def next_due(self) -> float | None:
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) == at and key not in self.in_flight:
                return at
            heapq.heappop(self._heap)  # The key is now due at another time.
        return None

    def take(self, now: float) -> Key | None:
        """The key that is due for the longest time. It is in flight until `done` or `failed`."""
        at = self.next_due()
        if at is None or at > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self.in_flight[key] = now
        return key

    def done(self, key: Key, now: float, again: float | None = inf) -> None:
        """The key succeeded. It is due again after `again` seconds; None: only after a `put`."""
        self._failures.pop(key, None)
        self._reschedule(
            key, None if again is None else now + min(self._spread(self._resync), again)
        )

    def failed(self, key: Key, now: float) -> float:
        """The key failed. Returns the seconds until the retry."""
        self._failures[key] = self._failures.get(key, 0) + 1
        pause = self._spread(backoff.pause(self._failures[key], FIRST_RETRY, MAX_RETRY))
        self._reschedule(key, now + pause)
        return pause

    def __len__(self) -> int:
        return len(self._due)

    def _reschedule(self, key: Key, at: float | None) -> None:
        del self.in_flight[key]
        again = [due for due in (self._due.pop(key, None), at) if due is not None]
        if again:
            self.put(key, min(again))

    def _spread(self, seconds: float) -> float:
        """Jitter of up to a fifth, so that keys put at the same moment spread out."""
        return seconds * (1 + _JITTER * (2 * self._jitter() - 1))


class WorkQueue:
    """Worker threads.

    Args:
        work: processes a key. Returns the seconds until the key must be processed again, inf
            without a limit, or None if the key's object is deleted. May raise any exception.
        accepts: whether a key may be queued now; one that may not is left out.
    """

    def __init__(
        self,
        work: Callable[[Key], float | None],
        *,
        workers: int,
        resync: float,
        accepts: Callable[[Key], bool] = lambda _: True,
    ) -> None:
        self._work = work
        self._accepts = accepts
        self._schedule = Schedule(resync)
        self._changed = threading.Condition()
        self._is_closing = False
        self._last_progress = time.monotonic()
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{n}", daemon=True)
            for n in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, key: Key) -> None:
        if not self._accepts(key):
            return
        with self._changed:
            self._schedule.put(key, time.monotonic())
            self._changed.notify()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop: keys in flight are finished, others are dropped.

        Returns:
            Whether the workers ended in time.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def silence(self) -> float:
        """Seconds without progress although keys were due; 0 before the start."""
        if not self._threads[0].is_alive():
            return 0.0
        with self._changed:
            waiting = [at for at in (self._schedule.next_due(),) if at is not None]
            since = min([*waiting, *self._schedule.in_flight.values()], default=time.monotonic())
            return max(0.0, time.monotonic() - max(since, self._last_progress))

    def __len__(self) -> int:
        """Keys in flight or scheduled, those that wait for their resync included."""
        with self._changed:
            return len(self._schedule) + len(self._schedule.in_flight)

    def _run(self) -> None:
        while (key := self._take()) is not None:
            namespace, name = key
            try:
                again = self._work(key)
            except Exception as error:
                with self._changed:
                    pause = self._schedule.failed(key, time.monotonic())
                    self._last_progress = time.monotonic()
                    self._changed.notify()
                log.warning(
                    "%s/%s: %s; again in %.1f s",
                    namespace,
                    name,
                    error,
                    pause,
                    exc_info=not getattr(error, "is_expected", False),
                )
            else:
                with self._changed:
                    self._schedule.done(key, time.monotonic(), again)
                    self._last_progress = time.monotonic()
                    self._changed.notify()

    def _take(self) -> Key | None:
        """The next key that is due; None when the queue closes."""
        with self._changed:
            while not self._is_closing:
                now = time.monotonic()
                if (key := self._schedule.take(now)) is not None:
                    return key
                due = self._schedule.next_due()
                self._changed.wait(None if due is None else due - now)
            return None
