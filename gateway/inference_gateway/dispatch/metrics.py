"""What dispatch tells Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import REGISTRY, Counter, Gauge, generate_latest

from inference_gateway.background.set_aside import ITEMS as SET_ASIDE

__all__ = ["CONTENT_TYPE", "SET_ASIDE"]

RECORDED = Counter("inference_recorded", "Changes written to PostgreSQL.")
STALE = Counter(
    "inference_stale_events",
    "Changes that met no open row of their attempt and token: late, repeated or already known.",
)
HANDED_OUT = Counter("inference_handed_out_again", "Predictions given a new attempt.", ["reason"])
ENDED = Counter("inference_ended_by_dispatch", "Predictions ended without a runner.", ["code"])
OPEN = Gauge("inference_open_predictions", "Predictions that have not ended.", ["status"])
HELD = Gauge(
    "inference_held_predictions",
    "Predictions that wait outside of Redis, which has as much of inputs as it may.",
)
OLDEST = Gauge(
    "inference_oldest_open_prediction_seconds", "Age of the oldest prediction that has not ended."
)
STALLED = Gauge(
    "inference_loop_stalled_seconds",
    "Time since a round of a loop went well; 0: it is at rest.",
    ["loop"],
)
FAILURES = Counter("inference_loop_failures", "Rounds of a loop that raised.", ["loop"])


def render() -> bytes:
    return generate_latest(REGISTRY)
