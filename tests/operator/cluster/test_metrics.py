"""What the Kubernetes half shows."""

from __future__ import annotations

from inference_operator.cluster.metrics import ClusterMetrics


def test_a_namespace_that_can_be_listed_again_is_shown_no_more() -> None:
    metrics = ClusterMetrics()
    metrics.refuse(["fine-again", "refused"])
    metrics.refuse(["refused"])
    shown = metrics.exposition().decode()
    assert 'refused_namespaces{name="refused"} 1.0' in shown
    assert "fine-again" not in shown
