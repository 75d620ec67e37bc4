"""GPUs as the scheduler sees them: a node that advertises some. No model computes on one here."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_operator import PAUSE, ClusterOperator
from kubernetes.client import V1ObjectMeta, V1ResourceQuota, V1ResourceQuotaSpec
from narrow import there

GPU = f"nvidia.com/test-{secrets.token_hex(4)}"
"""A name of this run's own, for the node may be shared."""
LABEL = f"inference-server.dev/test-{secrets.token_hex(4)}"
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
PROFILES = json.dumps(
    {
        "nvidia-t4": {
            "resources": {"requests": {"cpu": "1m"}, "limits": {GPU: "1"}},
            "nodeSelector": {LABEL: "t4"},
            "tolerations": [TOLERATION],
        }
    }
)
MERGE = "application/merge-patch+json"


@pytest.fixture
def two_gpus(operator: ClusterOperator) -> Iterator[str]:
    """The name of a node that has two, and the label of a T4."""
    core = operator.core
    node = next(node for node in core.list_node().items if not there(node.spec).taints)
    name = there(there(node.metadata).name)

    def change(label: str | None, gpus: str | None) -> None:
        core.patch_node(name, {"metadata": {"labels": {LABEL: label}}}, _content_type=MERGE)
        status = {"capacity": {GPU: gpus}, "allocatable": {GPU: gpus}}
        core.patch_node_status(name, {"status": status}, _content_type=MERGE)

    change("t4", "2")
    yield name
    change(None, None)


@pytest.fixture
def gpu_operator(operator: ClusterOperator) -> ClusterOperator:
    operator.start(RUNNER_IMAGE=PAUSE, HARDWARE_PROFILES=PROFILES)
    return operator


def _make(operator: ClusterOperator, name: str = "m", **pod: Any) -> None:
    operator.make(name, hardware="nvidia-t4", minReplicas=1, pod=pod)


def test_two_models_run_on_two_gpus_and_the_third_says_what_it_lacks(
    gpu_operator: ClusterOperator, two_gpus: str
) -> None:
    operator = gpu_operator
    for name in ("m", "b"):
        _make(operator, name)
        operator.until_reason("LoadingModel", name=name)
    _make(operator, "c")
    message = operator.until_reason("Unschedulable", name="c")
    assert message.startswith("no node takes the pod: 0/")
    assert f"1 Insufficient {GPU}" in message
    assert message.endswith("lower spec.pod.resources or its placement's demands, or add a node")
    [pod] = operator.pods("b")
    assert (pod.status.phase, pod.spec.node_name) == ("Running", two_gpus)
    assert TOLERATION.items() <= pod.spec.tolerations[0].to_dict().items()
    operator.change(minReplicas=0)
    operator.until_reason("LoadingModel", name="c")


def test_no_node_is_of_that_kind(gpu_operator: ClusterOperator) -> None:
    _make(gpu_operator)
    message = gpu_operator.until_reason("Unschedulable")
    assert "didn't match Pod's node affinity/selector" in message


def test_without_gpus_it_runs_on_the_cpu(operator: ClusterOperator, two_gpus: str) -> None:
    operator.start(RUNNER_IMAGE=PAUSE, HARDWARE_PROFILES=PROFILES, ENABLE_GPU="false")
    _make(operator)
    operator.until_reason("LoadingModel")
    [pod] = operator.pods()
    [container] = pod.spec.containers
    assert container.resources.limits is None
    assert {entry.name: entry.value for entry in container.env}["ENABLE_GPU"] == "false"
    _make(operator, "b", resources={"limits": {GPU: "1"}})
    message = operator.until_reason("NoCapacity", name="b")
    assert message.startswith(f"spec.pod.resources asks for {GPU}, but with ENABLE_GPU=false")
    assert not operator.pods("b")


def test_a_quota_that_is_used_up(gpu_operator: ClusterOperator) -> None:
    hard = {f"requests.{GPU}": "0"}
    quota = V1ResourceQuota(metadata=V1ObjectMeta(name="gpus"), spec=V1ResourceQuotaSpec(hard=hard))
    gpu_operator.core.create_namespaced_resource_quota(gpu_operator.namespace, quota)

    def is_counted() -> bool:
        read = gpu_operator.core.read_namespaced_resource_quota
        return bool(there(read("gpus", gpu_operator.namespace).status).hard)

    gpu_operator.until(is_counted)
    _make(gpu_operator)
    message = gpu_operator.until_reason("NoCapacity")
    assert f"exceeded quota: gpus, requested: requests.{GPU}=1" in message
    assert f"limited: requests.{GPU}=0" in message
