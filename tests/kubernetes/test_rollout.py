"""A changed model takes the place of the running one, or is taken back."""

from __future__ import annotations

from typing import Any

from house import House

SPEC: dict[str, Any] = {
    "type": "custom",
    "engine": {"className": "echo:Echo"},
    "minReplicas": 1,
    "version": "1",
}


def _ready_pods(house: House) -> list[str]:
    return [
        pod.metadata.name
        for pod in house.pods()
        if pod.metadata.deletion_timestamp is None
        and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    ]


def test_a_change_that_does_not_load_is_taken_back(
    house: House, runner_image: str, echo_volume: str
) -> None:
    """With one replica, and no room for another: the old one has gone before the new one fails."""
    house.start(RUNNER_IMAGE=runner_image)
    source = {"pvc": {"claimName": echo_volume}}
    house.make(source=source, **SPEC)
    house.until_reason("Ready", 90)
    assert house.status()["rollout"]["version"] == "1"
    house.change(version="2", engine={"className": "echo:Missing"})

    def is_taken_back() -> bool:
        return house.condition("Progressing").get("reason") == "RolloutFailed"

    house.until(is_taken_back, 90)
    house.until(lambda: house.condition()["status"] == "True" and len(house.pods()) == 1, 60)
    message = house.condition("Progressing")["message"]
    assert message.startswith(
        "version 1 serves on, for version 2 did not become ready (LoadFailed: "
    )
    assert "Missing" in message
    house.until(lambda: "RolloutFailed" in [reason for reason, _ in house.events()])
    # The operator may be another one meanwhile.
    before = (house.deployment() or {})["metadata"]["generation"]
    house.stop()
    house.start(RUNNER_IMAGE=runner_image)
    house.until(lambda: house.metric("inference_operator_reconciles_total") >= 3, 30)
    assert (house.deployment() or {})["metadata"]["generation"] == before
    # A corrected document is tried.
    house.change(version="3", engine={"className": "echo:Echo"})
    house.until(lambda: house.status()["rollout"]["version"] == "3", 90)
    house.until(lambda: house.condition("Progressing")["reason"] == "Stable", 60)
    assert house.condition()["status"] == "True"


def test_a_registry_that_is_away_is_waited_for(
    house: House, runner_image: str, echo_volume: str
) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    house.make(source={"pvc": {"claimName": echo_volume}}, **SPEC)
    house.until_reason("Ready", 90)
    house.change(version="2", pod={"image": "localhost:1/runner:1"})
    house.until(lambda: "connection refused" in house.condition("Ready")["message"], 90)
    house.until(lambda: house.condition("Progressing")["reason"] == "ImagePullBackOff", 60)
    house.change(version="3", pod={"image": f"{runner_image}-missing"})
    house.until(lambda: house.condition("Progressing").get("reason") == "RolloutFailed", 90)
    assert "not found" in house.condition("Progressing")["message"]


def test_a_change_that_names_no_secret_is_taken_back(
    house: House, runner_image: str, echo_volume: str
) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    house.make(source={"pvc": {"claimName": echo_volume}}, **SPEC)
    house.until_reason("Ready", 90)
    secret = {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}
    house.change(version="2", env=[{"name": "TOKEN", "valueFrom": secret}])
    house.until(lambda: house.condition("Progressing").get("reason") == "RolloutFailed", 90)
    message = house.condition("Progressing")["message"]
    assert (
        'CreateContainerConfigError: the container cannot start: secret "no-such-secret"' in message
    )
    house.until(lambda: house.condition()["status"] == "True", 60)


def test_with_room_to_spare_the_old_one_serves_meanwhile(
    house: House, runner_image: str, echo_volume: str
) -> None:
    house.start(RUNNER_IMAGE=runner_image)
    house.make(source={"pvc": {"claimName": echo_volume}}, rollout={"maxSurge": 1}, **SPEC)
    house.until_reason("Ready", 90)
    [old] = _ready_pods(house)
    house.change(version="2", source={"pvc": {"claimName": echo_volume, "path": "no/such"}})
    house.until(lambda: house.condition("Progressing").get("reason") == "RolloutFailed", 90)
    assert _ready_pods(house) == [old]
    house.until(lambda: len(house.pods()) == 1, 60)
    assert _ready_pods(house) == [old]
