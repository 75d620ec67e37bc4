"""What people do to what is the operator's, on a real API server, and how soon it is as it was."""

from __future__ import annotations

from house import CHILD, House
from kubernetes.client.exceptions import ApiException

from inference_contract.pods import LABEL_OWNER
from inference_operator.manifests.closed import NAME as CLOSED

SOON = 15
"""Seconds; a look at all that nobody touched comes after an hour."""


def _is_there(house: House, kind: str, name: str = CHILD) -> bool:
    read = {
        "policy": house.network.read_namespaced_network_policy,
        "account": house.core.read_namespaced_service_account,
        "secret": house.core.read_namespaced_secret,
    }[kind]
    try:
        read(name, house.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def test_children_that_somebody_deletes_are_back_in_seconds(house: House) -> None:
    house.start(RESYNC_SECONDS="3600")
    house.make(minReplicas=1)
    house.until(house.pods, 30)
    house.until(lambda: house.metric("inference_operator_reconciles_total") >= 2, 30)
    house.network.delete_namespaced_network_policy(CHILD, house.namespace)
    house.until(lambda: _is_there(house, "policy"), SOON)
    house.network.delete_namespaced_network_policy(CLOSED, house.namespace)
    house.until(lambda: _is_there(house, "policy", CLOSED), SOON)
    house.core.delete_namespaced_service_account(CHILD, house.namespace)
    house.until(lambda: _is_there(house, "account"), SOON)
    house.core.delete_namespaced_secret(CHILD, house.namespace)
    house.until(lambda: _is_there(house, "secret"), SOON)


def test_who_loses_the_owners_label_serves_nobody(house: House) -> None:
    house.start(RESYNC_SECONDS="3600")
    house.make(minReplicas=1)
    house.until(house.pods, 30)
    labels = {"metadata": {"labels": {LABEL_OWNER: None}}}
    house.core.patch_namespace(house.namespace, labels)
    house.until(lambda: (house.deployment() or {})["spec"]["replicas"] == 0, SOON)
    assert "its runners end their work and stop" in house.until_reason("InvalidModel")


def test_amounts_without_quotes_pass(house: House) -> None:
    house.start()
    house.make(pod={"resources": {"limits": {"cpu": 0.5, "memory": "256Mi"}}})
    house.until_reason("ScaledToZero")
    [container] = (house.deployment() or {})["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "256Mi"},
    }


def test_a_default_outside_its_enum_is_no_valid_model(house: House) -> None:
    house.start()
    parameter = {"type": "string", "enum": ["a", "b"], "default": "c"}
    house.make(inputSchema={"choice": parameter})
    assert "the default must be one of: a, b" in house.until_reason("InvalidModel")
