"""The generic cell rate algorithm: a limit whose whole state is one moment.

That moment, `tat` (theoretical arrival time), is when everything that was taken is paid for. One
more may be taken while that lies no further ahead than `burst` intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference_gateway.errors import TooManyRequests


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit, and what a caller who meets it is told."""

    name: str
    """In headers, metrics and keys."""
    per_second: float
    burst: int
    """So many may come at once."""
    message: str
    """Names the limit, its value and its setting."""

    @property
    def interval(self) -> float:
        return 1 / self.per_second

    @property
    def tolerance(self) -> float:
        """Seconds; a little more than the burst, as sums of floats are never even."""
        return (self.burst + 0.001) / self.per_second

    @property
    def policy(self) -> str:
        """Of the header RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.burst};w={max(1, math.ceil(self.burst / self.per_second))}'


class Cell:
    """The state of one caller under one limit. Seconds of the monotonic clock."""

    __slots__ = ("interval", "key", "rate", "tat", "tolerance", "unsent")

    def __init__(self, key: str, rate: Rate) -> None:
        self.key = key
        self.rate = rate
        self.interval = rate.interval
        self.tolerance = rate.tolerance
        self.tat = 0.0
        self.unsent = 0
        """Taken here, and not yet told to the others."""

    def wait(self, now: float) -> float:
        """Seconds until one more may be taken; not positive: now."""
        return max(self.tat, now) + self.interval - now - self.tolerance

    def take(self, now: float) -> None:
        self.tat = max(self.tat, now) + self.interval
        self.unsent += 1


def throttled(rate: Rate, wait: float) -> TooManyRequests:
    """The answer to whoever has to wait so many seconds."""
    seconds = max(1, math.ceil(wait))
    unit = "second" if seconds == 1 else "seconds"
    return TooManyRequests(
        f"Request was throttled. {rate.message}: try again in {seconds} {unit}.",
        headers={
            "Retry-After": str(seconds),
            "RateLimit": f'"{rate.name}";r=0;t={seconds}',
            "RateLimit-Policy": rate.policy,
        },
    )
