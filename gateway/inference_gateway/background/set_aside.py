"""Counts items that a shared loop could not process; the loop logs them."""

from __future__ import annotations

from prometheus_client import Counter

ITEMS = Counter(
    "inference_set_aside",
    "Items that a loop could not process and set aside; the log says why.",
    ["loop"],
)
