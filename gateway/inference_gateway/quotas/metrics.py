"""Metrics of quotas."""

from __future__ import annotations

from prometheus_client import Counter

REFUSED = Counter(
    "inference_quota_refusals_total", "Requests refused by an account's quota.", ["quota"]
)
