"""Metrics of rate limits."""

from __future__ import annotations

from prometheus_client import Counter

THROTTLED = Counter(
    "inference_throttled_total", "Requests refused by a rate limit, by the limit.", ["limit"]
)
