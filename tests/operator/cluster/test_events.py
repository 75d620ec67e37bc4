"""Which events a model has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inference_contract.inferencemodel import InferenceModelStatus, Reason, RolloutStatus
from inference_operator.cluster.api.objects import KubernetesEvent
from inference_operator.cluster.conditions import refused
from inference_operator.cluster.events import scaled, transitions
from inference_operator.scaling.decide import Decision, Why

AT = datetime(2026, 1, 2, tzinfo=UTC)


def _status(reason: Reason, message: str = "no") -> InferenceModelStatus:
    return refused(reason, message, 1, None, AT)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, Reason.LOAD_FAILED, KubernetesEvent("Warning", "LoadFailed", "no")),
        (Reason.LOADING_MODEL, Reason.LOAD_FAILED, KubernetesEvent("Warning", "LoadFailed", "no")),
        (Reason.LOAD_FAILED, Reason.LOAD_FAILED, None),
        (Reason.STARTING, Reason.NAME_TAKEN, KubernetesEvent("Warning", "NameTaken", "no")),
        (
            Reason.LOAD_FAILED,
            Reason.UNSCHEDULABLE,
            KubernetesEvent("Warning", "Unschedulable", "no"),
        ),
        (
            Reason.STARTING,
            Reason.CREATE_CONTAINER_CONFIG_ERROR,
            KubernetesEvent("Warning", "CreateContainerConfigError", "no"),
        ),
        (Reason.STARTING, Reason.PODS_REFUSED, KubernetesEvent("Warning", "PodsRefused", "no")),
        (Reason.READY, Reason.NODE_LOST, KubernetesEvent("Warning", "NodeLost", "no")),
        (Reason.LOADING_MODEL, Reason.EVICTED, KubernetesEvent("Warning", "Evicted", "no")),
        (Reason.LOADING_MODEL, Reason.NOT_READY, None),
        (Reason.LOAD_FAILED, Reason.READY, KubernetesEvent("Normal", "Ready", "no")),
        (Reason.READY, Reason.READY, None),
        (Reason.READY, Reason.SCALED_TO_ZERO, None),
        (Reason.SCALED_TO_ZERO, Reason.LOADING_MODEL, None),
    ],
)
def test_transitions(
    before: Reason | None, after: Reason, expected: KubernetesEvent | None
) -> None:
    was = _status(before, "else") if before else None
    found = transitions(was, _status(after))
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (RolloutStatus(), RolloutStatus(hash="a", version="1"), []),
        (
            RolloutStatus(hash="a", version="1"),
            RolloutStatus(hash="b", version="2"),
            [KubernetesEvent("Normal", "RolledOut", "version 2 serves")],
        ),
        (
            RolloutStatus(hash="a", version="1"),
            RolloutStatus(hash="a", version="1", failed_hash="b", failed_message="no file"),
            [
                KubernetesEvent(
                    "Warning",
                    "RolloutFailed",
                    "version 1 serves on; the change failed: no file",
                )
            ],
        ),
        (
            RolloutStatus(hash="a", version="1", failed_hash="b", failed_message="no file"),
            RolloutStatus(hash="a", version="1"),
            [],
        ),
    ],
)
def test_rollouts(
    before: RolloutStatus, after: RolloutStatus, expected: list[KubernetesEvent]
) -> None:
    statuses = [InferenceModelStatus(rollout=rollout) for rollout in (before, after)]
    assert transitions(*statuses) == expected


def test_scaling() -> None:
    assert scaled(1, Decision(3, Why.SCALE_UP)) == KubernetesEvent(
        "Normal", "ScaledUp", "from 1 to 3 replicas: ScaleUp"
    )
    assert scaled(3, Decision(0, Why.SCALE_DOWN)).reason == "ScaledDown"


def test_scaling_tells_what_changed_the_number_though_all_is_steady_since() -> None:
    late = Decision(0, Why.STEADY, changed_by=Why.SCALE_DOWN)
    assert scaled(2, late).note == "from 2 to 0 replicas: ScaleDown"
