"""What dispatch's loops last got done, told through Redis: gateways may run without any of them.

A sorted set of loops by the moment of their last progress, by Redis' clock. Several dispatch
processes tell the same loops: the newest word counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis

KEY = "inference:progress"
LOOPS = ("recorder", "grace", "relay", "sweeper", "feeder", "webhooks", "usage")
STALLED_SECONDS = 30.0
"""Silence that says something: a round takes milliseconds, and is told of every second."""


def tell(client: redis.Redis, silence: Mapping[str, float]) -> None:
    """
    Args:
        silence: loop → seconds since its last progress.

    Raises:
        redis.RedisError: it is away, or takes no writes.
    """
    now = _moment(client.time())
    client.zadd(KEY, {loop: now - seconds for loop, seconds in silence.items()}, gt=True)


def stalled(scores: Sequence[tuple[bytes, float]], time: Any) -> dict[str, float | None]:
    """Loops without progress, and for how many seconds; None of one that nobody tells of.

    Args:
        scores: the sorted set.
        time: Redis' answer to TIME.
    """
    told = {loop.decode(errors="replace"): score for loop, score in scores}
    now = _moment(time)
    silence = {loop: None if loop not in told else now - told[loop] for loop in LOOPS}
    return {
        loop: seconds
        for loop, seconds in silence.items()
        if seconds is None or abs(seconds) > STALLED_SECONDS
    }


def _moment(time: Any) -> float:
    seconds, microseconds = time
    return float(seconds) + float(microseconds) / 1e6
