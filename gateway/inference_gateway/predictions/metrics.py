"""Metrics of predictions."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

CREATED = Counter(
    "inference_predictions_created_total",
    "Requests to create a prediction, by outcome.",
    ["outcome"],
)
STORED = CREATED.labels("stored")
REPLAYED = CREATED.labels("replayed")
"""Answered with the existing prediction of an Idempotency-Key."""
REFUSED = CREATED.labels("refused")
UNAVAILABLE = CREATED.labels("unavailable")
UNCONFIRMED = CREATED.labels("unconfirmed")
"""The outcome is unknown: the connection to PostgreSQL broke before the reply."""

WAIT_SECONDS = Histogram(
    "inference_prediction_wait_seconds",
    "From request to answer of calls with Prefer: wait that ended in time.",
    buckets=_SECONDS,
)
BATCH_ROWS = Histogram(
    "inference_writer_batch_rows",
    "Predictions stored by one statement.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 500),
)
NOT_ENQUEUED = Counter(
    "inference_predictions_not_enqueued_total",
    "Predictions stored while Redis did not answer; the relay enqueues them.",
)
STREAM_READERS = Gauge("inference_stream_readers", "Clients that read a prediction's stream.")
