"""Events of an InferenceModel: what happened, for `kubectl describe`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inference_contract.inferencemodel import ConditionType, InferenceModelStatus, Reason
from inference_operator.autoscale import Decision

_TOLD = {Reason.LOAD_FAILED, Reason.NAME_TAKEN, Reason.OOM_KILLED}
_MAX_NOTE = 1000


@dataclass(frozen=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def scaled(before: int, decision: Decision) -> Event:
    reason = "ScaledUp" if decision.replicas > before else "ScaledDown"
    note = f"from {before} to {decision.replicas} replicas: {decision.reason}"
    return Event("Normal", reason, note)


def transition(before: InferenceModelStatus | None, after: InferenceModelStatus) -> Event | None:
    """What is worth an event in a change of status: a new failure, once."""
    ready = after.condition(ConditionType.READY)
    was = before.condition(ConditionType.READY) if before else None
    if ready is None or ready.reason not in _TOLD or (was and was.reason == ready.reason):
        return None
    return Event("Warning", ready.reason, ready.message[:_MAX_NOTE])
