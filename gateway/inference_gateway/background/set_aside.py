"""Items that a loop which serves everybody could not work with: counted, here, and logged there."""

from __future__ import annotations

from prometheus_client import Counter

ITEMS = Counter(
    "inference_set_aside",
    "Items that a loop could not work with and put aside: what it did with them is in the log.",
    ["loop"],
)
