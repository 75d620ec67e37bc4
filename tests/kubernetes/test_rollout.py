"""A changed model takes the place of the running one, or is taken back."""

from __future__ import annotations

from typing import Any

from cluster_operator import ClusterOperator

SPEC: dict[str, Any] = {
    "type": "custom",
    "engine": {"className": "echo:Echo"},
    "minReplicas": 1,
    "version": "1",
}


def _ready_pods(operator: ClusterOperator) -> list[str]:
    return [
        pod.metadata.name
        for pod in operator.pods()
        if pod.metadata.deletion_timestamp is None
        and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    ]


def test_a_change_that_does_not_load_is_taken_back(
    operator: ClusterOperator, runner_image: str, echo_volume: str
) -> None:
    """With one replica, and no room for another: the old one has gone before the new one fails."""
    operator.start(RUNNER_IMAGE=runner_image)
    source = {"pvc": {"claimName": echo_volume}}
    operator.make(source=source, **SPEC)
    operator.until_reason("Ready", 90)
    assert operator.status()["rollout"]["version"] == "1"
    operator.change(version="2", engine={"className": "echo:Missing"})

    def is_taken_back() -> bool:
        return operator.condition("Progressing").get("reason") == "RolloutFailed"

    operator.until(is_taken_back, 90)
    operator.until(
        lambda: operator.condition()["status"] == "True" and len(operator.pods()) == 1, 60
    )
    message = operator.condition("Progressing")["message"]
    assert message.startswith(
        "version 1 serves on, for version 2 did not become ready (LoadFailed: "
    )
    assert "Missing" in message
    operator.until(lambda: "RolloutFailed" in [reason for reason, _ in operator.events()])
    # The operator may be another one meanwhile.
    before = (operator.deployment() or {})["metadata"]["generation"]
    operator.stop()
    operator.start(RUNNER_IMAGE=runner_image)
    operator.until(lambda: operator.metric("inference_operator_reconciles_total") >= 3, 30)
    assert (operator.deployment() or {})["metadata"]["generation"] == before
    # A corrected document is tried.
    operator.change(version="3", engine={"className": "echo:Echo"})
    operator.until(lambda: operator.status()["rollout"]["version"] == "3", 90)
    operator.until(lambda: operator.condition("Progressing")["reason"] == "Stable", 60)
    assert operator.condition()["status"] == "True"


def test_a_registry_that_is_away_is_waited_for(
    operator: ClusterOperator, runner_image: str, echo_volume: str
) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    operator.make(source={"pvc": {"claimName": echo_volume}}, **SPEC)
    operator.until_reason("Ready", 90)
    operator.change(version="2", pod={"image": "localhost:1/runner:1"})
    operator.until(lambda: "connection refused" in operator.condition("Ready")["message"], 90)
    operator.until(lambda: operator.condition("Progressing")["reason"] == "ImagePullBackOff", 60)
    operator.change(version="3", pod={"image": f"{runner_image}-missing"})
    operator.until(lambda: operator.condition("Progressing").get("reason") == "RolloutFailed", 90)
    assert "not found" in operator.condition("Progressing")["message"]


def test_a_change_that_names_no_secret_is_taken_back(
    operator: ClusterOperator, runner_image: str, echo_volume: str
) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    operator.make(source={"pvc": {"claimName": echo_volume}}, **SPEC)
    operator.until_reason("Ready", 90)
    secret = {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}
    operator.change(version="2", env=[{"name": "TOKEN", "valueFrom": secret}])
    operator.until(lambda: operator.condition("Progressing").get("reason") == "RolloutFailed", 90)
    message = operator.condition("Progressing")["message"]
    assert (
        'CreateContainerConfigError: the container cannot start: secret "no-such-secret"' in message
    )
    operator.until(lambda: operator.condition()["status"] == "True", 60)


def test_with_room_to_spare_the_old_one_serves_meanwhile(
    operator: ClusterOperator, runner_image: str, echo_volume: str
) -> None:
    operator.start(RUNNER_IMAGE=runner_image)
    operator.make(source={"pvc": {"claimName": echo_volume}}, rollout={"maxSurge": 1}, **SPEC)
    operator.until_reason("Ready", 90)
    [old] = _ready_pods(operator)
    operator.change(version="2", source={"pvc": {"claimName": echo_volume, "path": "no/such"}})
    operator.until(lambda: operator.condition("Progressing").get("reason") == "RolloutFailed", 90)
    assert _ready_pods(operator) == [old]
    operator.until(lambda: len(operator.pods()) == 1, 60)
    assert _ready_pods(operator) == [old]
