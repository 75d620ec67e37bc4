"""Metrics of dispatch."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import REGISTRY, Counter, Gauge, generate_latest

from inference_gateway.background.set_aside import ITEMS as SET_ASIDE

__all__ = ["CONTENT_TYPE", "SET_ASIDE"]

RECORDED = Counter("inference_recorded", "Changes written to PostgreSQL.")
STALE = Counter(
    "inference_stale_events",
    "Changes without an open row of their attempt and token: late, repeated or already recorded.",
)
HANDED_OUT = Counter("inference_handed_out_again", "Predictions given a new attempt.", ["reason"])
ENDED = Counter("inference_ended_by_dispatch", "Predictions ended without a runner.", ["code"])
OPEN = Gauge("inference_open_predictions", "Predictions that have not ended.", ["status"])
HELD = Gauge(
    "inference_held_predictions",
    "Predictions held in PostgreSQL, because Redis has no space for their inputs.",
)
OLDEST = Gauge(
    "inference_oldest_open_prediction_seconds", "Age of the oldest prediction that has not ended."
)
STALLED = Gauge(
    "inference_loop_stalled_seconds",
    "Time since the last successful round of a loop; 0 while it pauses.",
    ["loop"],
)
FAILURES = Counter("inference_loop_failures", "Rounds of a loop that raised.", ["loop"])


def render() -> bytes:
    return generate_latest(REGISTRY)
