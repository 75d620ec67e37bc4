"""Kubernetes Events of an InferenceModel, for `kubectl describe`."""

from __future__ import annotations

from inference_contract.inferencemodel import ConditionType, InferenceModelStatus, Reason
from inference_operator.cluster.api.objects import MAX_NOTE, KubernetesEvent
from inference_operator.scaling.decide import Decision

_FINE = {
    *(Reason.READY, Reason.SCALED_TO_ZERO, Reason.STARTING),
    *(Reason.DOWNLOADING_MODEL, Reason.LOADING_MODEL, Reason.NOT_READY),
}


def scaled(before: int, decision: Decision) -> KubernetesEvent:
    reason = "ScaledUp" if decision.replicas > before else "ScaledDown"
    # The decision may be later than the one that changed the number, and say only "unchanged".
    why = decision.changed_by or decision.reason
    note = f"from {before} to {decision.replicas} replicas: {why}"
    return KubernetesEvent("Normal", reason, note)


def transitions(
    before: InferenceModelStatus | None, after: InferenceModelStatus
) -> list[KubernetesEvent]:
    """The events for a change of status, each once."""
    before = before or InferenceModelStatus()
    return [event for event in (_of_ready(before, after), _of_rollout(before, after)) if event]


def _of_ready(before: InferenceModelStatus, after: InferenceModelStatus) -> KubernetesEvent | None:
    ready, was = after.condition(ConditionType.READY), before.condition(ConditionType.READY)
    if ready is None or (was and was.reason == ready.reason):
        return None
    if ready.reason == Reason.READY:
        return KubernetesEvent("Normal", ready.reason, ready.message)
    return (
        None
        if ready.reason in _FINE
        else KubernetesEvent("Warning", ready.reason, ready.message[:MAX_NOTE])
    )


def _of_rollout(
    before: InferenceModelStatus, after: InferenceModelStatus
) -> KubernetesEvent | None:
    was, now = before.rollout, after.rollout
    if now.failed_hash and now.failed_hash != was.failed_hash:
        note = f"version {now.version} serves on; the change failed: {now.failed_message}"
        return KubernetesEvent("Warning", Reason.ROLLOUT_FAILED, note[:MAX_NOTE])
    if was.hash and now.hash and now.hash != was.hash:
        return KubernetesEvent("Normal", "RolledOut", f"version {now.version} serves")
    return None
