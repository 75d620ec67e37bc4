"""What people do to what is the operator's, on a real API server, and how soon it is as it was."""

from __future__ import annotations

from cluster_operator import CHILD, ClusterOperator
from kubernetes.client.exceptions import ApiException

from inference_contract.pods import LABEL_OWNER
from inference_operator.cluster.manifests.closed import NAME as CLOSED

SOON = 15
"""Seconds; a look at all that nobody touched comes after an hour."""


def _is_there(operator: ClusterOperator, kind: str, name: str = CHILD) -> bool:
    read = {
        "policy": operator.network.read_namespaced_network_policy,
        "account": operator.core.read_namespaced_service_account,
        "secret": operator.core.read_namespaced_secret,
    }[kind]
    try:
        read(name, operator.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def test_children_that_somebody_deletes_are_back_in_seconds(operator: ClusterOperator) -> None:
    operator.start(RESYNC_SECONDS="3600")
    operator.make(minReplicas=1)
    operator.until(operator.pods, 30)
    operator.until(lambda: operator.metric("inference_operator_reconciles_total") >= 2, 30)
    operator.network.delete_namespaced_network_policy(CHILD, operator.namespace)
    operator.until(lambda: _is_there(operator, "policy"), SOON)
    operator.network.delete_namespaced_network_policy(CLOSED, operator.namespace)
    operator.until(lambda: _is_there(operator, "policy", CLOSED), SOON)
    operator.core.delete_namespaced_service_account(CHILD, operator.namespace)
    operator.until(lambda: _is_there(operator, "account"), SOON)
    operator.core.delete_namespaced_secret(CHILD, operator.namespace)
    operator.until(lambda: _is_there(operator, "secret"), SOON)


def test_who_loses_the_owners_label_serves_nobody(operator: ClusterOperator) -> None:
    operator.start(RESYNC_SECONDS="3600")
    operator.make(minReplicas=1)
    operator.until(operator.pods, 30)
    labels = {"metadata": {"labels": {LABEL_OWNER: None}}}
    operator.core.patch_namespace(operator.namespace, labels)
    operator.until(lambda: (operator.deployment() or {})["spec"]["replicas"] == 0, SOON)
    assert "its runners end their work and stop" in operator.until_reason("InvalidModel")


def test_amounts_without_quotes_pass(operator: ClusterOperator) -> None:
    operator.start()
    operator.make(pod={"resources": {"limits": {"cpu": 0.5, "memory": "256Mi"}}})
    operator.until_reason("ScaledToZero")
    [container] = (operator.deployment() or {})["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "256Mi"},
    }


def test_a_default_outside_its_enum_is_no_valid_model(operator: ClusterOperator) -> None:
    operator.start()
    parameter = {"type": "string", "enum": ["a", "b"], "default": "c"}
    operator.make(inputSchema={"choice": parameter})
    assert "the default must be one of: a, b" in operator.until_reason("InvalidModel")
