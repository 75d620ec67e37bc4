"""Runners say through Redis that they live: when it was away, their silence says nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import redis


class Grace:
    """For one who looks now and then, and takes a runner whose lease has ended for dead.

    Args:
        seconds: how long after an outage no runner counts as dead: a lease, within which each is
            heard again.
    """

    def __init__(
        self, client: redis.Redis, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = client
        self._seconds = seconds
        self._clock = clock
        self._until = -math.inf

    def holds(self) -> bool:
        """Whether Redis was away a moment ago. To be called before the look.

        Raises:
            redis.RedisError: it is away.
        """
        try:
            self._redis.ping()
        except redis.RedisError:
            self._until = math.inf
            raise
        now = self._clock()
        self._until = min(self._until, now + self._seconds)
        return now < self._until
