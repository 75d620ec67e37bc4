"""The last progress of dispatch's loops, published in Redis for the gateways' health report.

A sorted set of loops by the time of their last progress, by Redis' clock. Several dispatch
processes write the same loops: the newest time counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis

KEY = "inference:progress"
LOOPS = ("recorder", "grace", "relay", "sweeper", "feeder", "webhooks", "usage")
STALLED_SECONDS = 30.0
"""Without progress for so long a loop counts as stalled: a round takes milliseconds."""


def tell(client: redis.Redis, silence: Mapping[str, float]) -> None:
    """
    Args:
        silence: loop → seconds since its last progress.

    Raises:
        redis.RedisError: Redis does not answer, or refuses writes.
    """
    now = _moment(client.time())
    client.zadd(KEY, {loop: now - seconds for loop, seconds in silence.items()}, gt=True)


def stalled(scores: Sequence[tuple[bytes, float]], time: Any) -> dict[str, float | None]:
    """Loops without progress, each with the seconds; None for a loop that is missing in the set.

    Args:
        scores: the sorted set.
        time: Redis' reply to TIME.
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
