"""Why a prediction has not started yet, from its model's conditions. Part of every response with
the prediction, in addition to Replicate's fields."""

from __future__ import annotations

from inference_contract.inferencemodel import (
    ConditionStatus,
    ConditionType,
    InferenceModel,
    Reason,
)
from inference_contract.predictions import PredictionStatus
from inference_gateway.lifecycle.prediction import State
from inference_gateway.models.catalog import CatalogModel, Entry

_STAGES = {
    Reason.STARTING: "starting",
    Reason.SCALED_TO_ZERO: "starting",
    Reason.DOWNLOADING_MODEL: "downloading",
    Reason.LOADING_MODEL: "loading",
    Reason.NOT_READY: "loading",
}
"""Stages of reasons that pass by themselves; for all others the model is `blocked`."""
_STARTING = PredictionStatus.STARTING.value
_OWNER_SEES = "the model cannot start now; its owner sees why"


def detail(entry: Entry | None, row: State, *, is_trusted: bool) -> dict[str, str] | None:
    """Stage (queued, starting, downloading, loading, blocked), reason and message; None once it
    runs or has ended.

    Args:
        is_trusted: whether the reader may see runners' messages, which may quote code and paths.
    """
    if row["status"] != _STARTING or row["completed_at"] is not None:
        return None
    if entry is None:
        return _said("blocked", "ModelGone", "the model is not there any more")
    if not isinstance(entry, CatalogModel):
        message = f"the model's document is not valid: {entry.error}" if is_trusted else _OWNER_SEES
        return _said("blocked", Reason.INVALID_MODEL, message)
    said = entry.details.get(is_trusted)
    if said is None:
        said = entry.details[is_trusted] = _of_model(entry.model, is_trusted=is_trusted)
    return _HELD if row["held"] and said["stage"] != "blocked" else said


def _of_model(model: InferenceModel, *, is_trusted: bool) -> dict[str, str]:
    status = model.status
    ready = status.condition(ConditionType.READY)
    if ready is None:
        return _said("starting", "NotSeenYet", "the operator has not looked at the model yet")
    if ready.status is ConditionStatus.TRUE and status.ready_replicas:
        load = f"{status.queued} predictions of the model wait and {status.in_flight} run"
        return _said("queued", "Queued", f"{load}, on {status.ready_replicas} replicas")
    stage = _STAGES.get(Reason(ready.reason), "blocked") if ready.reason in _REASONS else "blocked"
    if stage == "starting":
        return _said(stage, ready.reason, "a replica of the model starts")
    message = ready.message if is_trusted else _OWNER_SEES if stage == "blocked" else ""
    return _said(stage, ready.reason, message)


_REASONS = frozenset(Reason)


def _said(stage: str, reason: str, message: str) -> dict[str, str]:
    return {"stage": stage, "reason": str(reason), "message": message}


_HELD = _said(
    "queued",
    "InputsOverBudget",
    "the inputs of your predictions that wait or run take as much memory as one account may have "
    "in the queues (QUEUED_BYTES_PER_ACCOUNT, less while others need it too): this one is put on "
    "its queue as soon as earlier ones have ended",
)
