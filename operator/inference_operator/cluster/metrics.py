"""What the Kubernetes half shows at /metrics."""

from __future__ import annotations

from collections.abc import Collection

import prometheus_client


class ClusterMetrics:
    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.looks = prometheus_client.Counter(
            "inference_operator_reconciles",
            "Looks at a model, by how they ended.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = prometheus_client.Histogram(
            "inference_operator_reconcile_seconds",
            "Time of one look at a model.",
            buckets=(0.01, 0.05, 0.2, 1.0, 5.0, 20.0),
            registry=self.registry,
        )
        self.writes = prometheus_client.Counter(
            "inference_operator_writes",
            "Requests that changed something in the cluster; none at rest.",
            ["what"],
            registry=self.registry,
        )
        self.queue = prometheus_client.Gauge(
            "inference_operator_models", "Models on the agenda.", registry=self.registry
        )
        self.refused = prometheus_client.Gauge(
            "inference_operator_refused_namespaces",
            "1 for each namespace that cannot be listed: nothing is done there.",
            ["name"],
            registry=self.registry,
        )
        self._refused: set[str] = set()
        for result in ("ok", "error"):
            self.looks.labels(result)

    def refuse(self, namespaces: Collection[str]) -> None:
        """Those that cannot be listed now; empty: all at once."""
        names = {name or "*" for name in namespaces}
        for name in self._refused - names:
            self.refused.remove(name)
        for name in names:
            self.refused.labels(name).set(1)
        self._refused = names

    def exposition(self) -> bytes:
        return prometheus_client.generate_latest(self.registry)
