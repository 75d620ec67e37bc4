"""Metrics of one runner."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from inference_contract.probes import ProbeReply
from inference_runner.runs import Outcome, Run

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class RunnerMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        of: dict[str, Any] = {"registry": self.registry}
        self._ended = Counter(
            "inference_runner_predictions", "Predictions that ended here.", ["status"], **of
        )
        self._batch = Histogram(
            "inference_runner_batch_size",
            "Predictions in one forward pass.",
            buckets=[2**n for n in range(11)],
            **of,
        )
        self._seconds = Histogram(
            "inference_runner_predict_seconds",
            "Time a prediction had the model.",
            buckets=_SECONDS,
            **of,
        )
        self._tokens = Counter("inference_runner_tokens", "Tokens.", ["direction"], **of)
        self.load_seconds = Gauge(
            "inference_runner_load_seconds", "Time it took to load the model.", **of
        )
        self.in_flight = Gauge(
            "inference_runner_in_flight", "Predictions claimed and not ended.", **of
        )

    def batch(self, size: int) -> None:
        self._batch.observe(size)

    def ended(self, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> None:
        types = collections.Counter(outcome.type for outcome in outcomes)
        for status, number in types.items():
            self._ended.labels(status.value).inc(number)
        for run, outcome in zip(runs, outcomes, strict=True):
            self._seconds.observe(run.elapsed())
            if outcome.metrics:
                self._tokens.labels("input").inc(outcome.metrics.get("input_token_count", 0))
                self._tokens.labels("output").inc(outcome.metrics.get("output_token_count", 0))

    def reply(self) -> ProbeReply:
        return ProbeReply(200, generate_latest(self.registry), "text/plain; version=0.0.4")
