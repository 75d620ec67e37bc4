"""The next step after an attempt to deliver a webhook: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

_GAPS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
"""Seconds between attempts: 23.7 hours in all."""
_JITTER = 0.2
_MAX_RETRY_AFTER = 28_800.0
_GONE = 410


class DeliveryState(StrEnum):
    """State of a row of `webhook_deliveries`."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True)
class Receipt:
    """The outcome of one attempt."""

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    final: bool = False
    """A further attempt cannot succeed."""


@dataclass(frozen=True)
class Next:
    state: DeliveryState
    delay: float = 0.0
    """Seconds until the next attempt, if the delivery is still pending."""


def schedule(attempt: int, retry_after: float | None, jitter: float) -> float | None:
    """Seconds from the attempt of that number (1 is the first) to the next; None: give up.

    Args:
        retry_after: the receiver's Retry-After, seconds.
        jitter: random, 0 to 1: spreads the attempts after a receiver's outage.
    """
    if attempt > len(_GAPS):
        return None
    gap = _GAPS[attempt - 1] * (1 + _JITTER * jitter)
    return max(gap, min(retry_after or 0.0, _MAX_RETRY_AFTER))


def conclude(attempt: int, answer: Receipt, jitter: float) -> Next:
    if answer.status is not None and 200 <= answer.status < 300:
        return Next(DeliveryState.DELIVERED)
    delay = schedule(attempt, answer.retry_after, jitter)
    if answer.final or answer.status == _GONE or delay is None:
        return Next(DeliveryState.FAILED)
    return Next(DeliveryState.PENDING, delay)


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds; the header holds seconds or a date (RFC 9110). None if it is neither."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - now).total_seconds(), 0.0)
