"""The generic cell rate algorithm (GCRA): a rate limit whose state is one timestamp.

The timestamp, `tat` (theoretical arrival time), advances by one interval for each request. A
request is allowed while `tat` is at most `burst` intervals in the future."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference_gateway.errors import TooManyRequests


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit and its error message."""

    name: str
    """Name in headers, metrics and keys."""
    per_second: float
    burst: int
    """Requests allowed at once."""
    message: str
    """Names the limit, its value and its setting."""

    @property
    def interval(self) -> float:
        return 1 / self.per_second

    @property
    def tolerance(self) -> float:
        """Seconds; a little more than the burst, as sums of floats are inexact."""
        return (self.burst + 0.001) / self.per_second

    @property
    def policy(self) -> str:
        """Value of the header RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
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
        """Requests counted here and not yet sent to Redis."""

    def wait(self, now: float) -> float:
        """Seconds until the next request is allowed; not positive: now."""
        return max(self.tat, now) + self.interval - now - self.tolerance

    def take(self, now: float) -> None:
        self.tat = max(self.tat, now) + self.interval
        self.unsent += 1


def throttled(rate: Rate, wait: float) -> TooManyRequests:
    """The error for a caller that must wait so many seconds."""
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
