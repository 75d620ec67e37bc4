"""The parts of a model's status that both operators share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from inference_contract.inferencemodel import (
    Condition,
    ConditionStatus,
    ConditionType,
    InferenceModelStatus,
    Reason,
)
from inference_operator.scaling.decide import Decision, Why

_MAX_MESSAGE = 4000

Finding = tuple[ConditionStatus, str, str]
"""Status, reason and message of a condition."""


def conditions(
    findings: Mapping[ConditionType, Finding],
    generation: int,
    previous: InferenceModelStatus,
    at: datetime,
) -> list[Condition]:
    """The conditions. One whose status has not changed keeps its transition time."""
    return [
        _condition(kind, finding, generation, previous.condition(kind), at)
        for kind, finding in findings.items()
    ]


def scaling(decision: Decision | None, deployment: str = "") -> Finding:
    """The condition ScalingActive.

    Args:
        decision: None for a model whose document is not valid.
        deployment: the Deployment's name, for the message; empty on one machine.
    """
    if decision is None:
        message = "does not scale until the document is valid"
        return ConditionStatus.FALSE, Reason.INVALID_MODEL, message
    if decision.reason is Why.UNKNOWN:
        held = f"replicas stay at {decision.replicas} until Redis says what the load is"
        return ConditionStatus.UNKNOWN, Why.UNKNOWN, held
    if decision.reason is Why.EXTERNAL:
        left = (
            f"left at {decision.replicas} replicas: spec.autoscaling.mode is None; scale "
            f"the Deployment {deployment}, not the model"
        )
        return ConditionStatus.FALSE, Why.EXTERNAL, left
    return ConditionStatus.TRUE, decision.reason, f"{decision.replicas} replicas wanted"


def _condition(
    kind: ConditionType,
    finding: Finding,
    generation: int,
    before: Condition | None,
    at: datetime,
) -> Condition:
    status, reason, message = finding
    flipped = before is None or before.status is not status
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:_MAX_MESSAGE],
        last_transition_time=at if before is None or flipped else before.last_transition_time,
        observed_generation=generation,
    )
