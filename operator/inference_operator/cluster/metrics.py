"""The metrics of the operator of a cluster."""

from __future__ import annotations

from collections.abc import Collection

import prometheus_client


class ClusterMetrics:
    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.looks = prometheus_client.Counter(
            "inference_operator_reconciles",
            "Reconciles of a model, by outcome.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = prometheus_client.Histogram(
            "inference_operator_reconcile_seconds",
            "Time of one reconcile of a model.",
            buckets=(0.01, 0.05, 0.2, 1.0, 5.0, 20.0),
            registry=self.registry,
        )
        self.writes = prometheus_client.Counter(
            "inference_operator_writes",
            "Requests that changed something in the cluster; none while nothing changes.",
            ["what"],
            registry=self.registry,
        )
        self.queue = prometheus_client.Gauge(
            "inference_operator_models", "Models known to the work queue.", registry=self.registry
        )
        self.refused = prometheus_client.Gauge(
            "inference_operator_refused_namespaces",
            "1 for each namespace that cannot be listed; the operator does nothing there.",
            ["name"],
            registry=self.registry,
        )
        self._refused: set[str] = set()
        for result in ("ok", "error"):
            self.looks.labels(result)

    def refuse(self, namespaces: Collection[str]) -> None:
        """Set the namespaces that cannot be listed; "" stands for all namespaces."""
        names = {name or "*" for name in namespaces}
        for name in self._refused - names:
            self.refused.remove(name)
        for name in names:
            self.refused.labels(name).set(1)
        self._refused = names

    def exposition(self) -> bytes:
        return prometheus_client.generate_latest(self.registry)
