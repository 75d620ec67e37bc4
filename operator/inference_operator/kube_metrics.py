"""What the Kubernetes half shows at /metrics."""

from __future__ import annotations

import prometheus_client


class KubeMetrics:
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
            "Namespaces that the API server does not let us list: nothing is done there.",
            registry=self.registry,
        )
        for result in ("ok", "error"):
            self.looks.labels(result)

    def exposition(self) -> bytes:
        return prometheus_client.generate_latest(self.registry)
