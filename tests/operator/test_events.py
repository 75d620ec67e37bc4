"""Which events a model has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator.autoscale import Decision, Why
from inference_operator.events import Event, scaled, transition
from inference_operator.pod_conditions import refused

AT = datetime(2026, 1, 2, tzinfo=UTC)


def _status(reason: Reason, message: str = "no") -> InferenceModelStatus:
    return refused(reason, message, 1, None, AT)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, Reason.LOAD_FAILED, Event("Warning", "LoadFailed", "no")),
        (Reason.LOADING_MODEL, Reason.LOAD_FAILED, Event("Warning", "LoadFailed", "no")),
        (Reason.LOAD_FAILED, Reason.LOAD_FAILED, None),
        (Reason.STARTING, Reason.NAME_TAKEN, Event("Warning", "NameTaken", "no")),
        (Reason.LOAD_FAILED, Reason.READY, None),
    ],
)
def test_transitions(before: Reason | None, after: Reason, expected: Event | None) -> None:
    assert transition(before and _status(before, "else"), _status(after)) == expected


def test_scaling() -> None:
    assert scaled(1, Decision(3, Why.SCALE_UP)) == Event(
        "Normal", "ScaledUp", "from 1 to 3 replicas: ScaleUp"
    )
    assert scaled(3, Decision(0, Why.SCALE_DOWN)).reason == "ScaledDown"
