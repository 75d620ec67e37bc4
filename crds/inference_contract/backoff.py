"""Exponential backoff: pauses between retries that double."""

from __future__ import annotations

_MAX_DOUBLINGS = 30


def pause(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row, 1 or more."""
    return min(first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), longest)
