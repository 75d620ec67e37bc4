"""The JSON of a model in the API: Replicate's fields, and fields of our own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired

from typing_extensions import TypedDict

from inference_contract.inferencemodel import (
    ConditionStatus,
    ConditionType,
    InferenceModel,
    InferenceModelSpec,
    Reason,
    Visibility,
)
from inference_contract.modeltype import ModelType
from inference_gateway.auth.accounts import Principal
from inference_gateway.models.catalog import CatalogModel, Entry, belongs_to
from inference_gateway.models.openapi import openapi_schema
from inference_gateway.models.store import InvalidDocument


class Version(TypedDict):
    id: str
    created_at: datetime | None
    cog_version: str
    openapi_schema: dict[str, Any]


class Status(TypedDict):
    ready: bool
    reason: str | None
    message: str
    replicas: int
    ready_replicas: int
    queued: int
    in_flight: int
    conditions: list[dict[str, Any]]
    log_tail: list[str]


class Identity(TypedDict):
    id: str
    owner: str
    name: str
    url: str


class ModelOut(Identity):
    """An invalid document lacks the optional fields."""

    display_name: str | None
    description: str
    visibility: Visibility
    run_count: int
    """Number of its predictions."""
    created_at: datetime | None
    latest_version: Version | None
    default_example: None
    status: Status
    generation: NotRequired[int]
    cover_image_url: NotRequired[None]
    github_url: NotRequired[None]
    license_url: NotRequired[None]
    paper_url: NotRequired[None]
    model_type: NotRequired[ModelType]
    version: NotRequired[str]
    model_path: NotRequired[str | None]
    hardware: NotRequired[str]
    input_schema: NotRequired[dict[str, dict[str, Any]]]
    min_replicas: NotRequired[int]
    max_replicas: NotRequired[int]


class ModelPage(TypedDict):
    next: str | None
    """The URL of the page that follows."""
    previous: None
    results: list[ModelOut]


def entry_out(entry: Entry, base_url: str, viewer: Principal | None, run_count: int) -> ModelOut:
    """
    Args:
        run_count: number of its predictions.
    """
    if isinstance(entry, InvalidDocument):
        return _invalid_out(entry, base_url, run_count)
    return _model_out(entry, base_url, viewer, run_count)


def _model_out(
    entry: CatalogModel, base_url: str, viewer: Principal | None, run_count: int
) -> ModelOut:
    model, spec = entry.model, entry.model.spec
    trusted = viewer is not None and (viewer.is_admin or belongs_to(entry, viewer))
    created_at = model.metadata.creation_timestamp
    return {
        **_identity(entry.id, base_url),
        "display_name": spec.display_name,
        "description": spec.description,
        "generation": model.metadata.generation,
        "visibility": spec.visibility,
        "run_count": run_count,
        "created_at": created_at,
        "latest_version": {
            "id": spec.version,
            "created_at": created_at,
            "cog_version": "",
            "openapi_schema": openapi_schema(spec),
        },
        "default_example": None,
        "cover_image_url": None,
        "github_url": None,
        "license_url": None,
        "paper_url": None,
        "model_type": spec.type,
        "version": spec.version,
        "model_path": _model_path(spec, trusted=trusted),
        "hardware": spec.hardware,
        "input_schema": {
            name: parameter.model_dump(exclude_none=True)
            for name, parameter in spec.parameters().items()
        },
        "min_replicas": spec.min_replicas,
        "max_replicas": spec.max_replicas,
        "status": _status(model, trusted=trusted),
    }


def _identity(model_id: str, base_url: str) -> Identity:
    owner, _, name = model_id.partition("/")
    url = f"{base_url}/v1/models/{model_id}"
    return {"id": model_id, "owner": owner, "name": name, "url": url}


def _model_path(spec: InferenceModelSpec, *, trusted: bool) -> str | None:
    """The source as one string; paths are shown to trusted callers only."""
    if spec.source.hub is not None:
        revision = f"@{spec.source.hub.revision}" if spec.source.hub.revision else ""
        return spec.source.hub.repo + revision
    if spec.source.wheel is not None:
        return f"{spec.source.wheel.package}:{spec.source.wheel.file}"
    return spec.source.path if trusted else None


def _status(model: InferenceModel, *, trusted: bool) -> Status:
    """The status. A runner's messages and logs may quote code and paths: trusted callers only."""
    status = model.status
    ready = status.condition(ConditionType.READY)
    conditions = [condition.model_dump(mode="json") for condition in status.conditions]
    if not trusted:
        for condition in conditions:
            condition["message"] = ""
    return {
        "ready": ready is not None and ready.status is ConditionStatus.TRUE,
        "reason": ready.reason if ready else None,
        "message": ready.message if ready and trusted else "",
        "replicas": status.replicas,
        "ready_replicas": status.ready_replicas,
        "queued": status.queued,
        "in_flight": status.in_flight,
        "conditions": conditions,
        "log_tail": status.log_tail if trusted else [],
    }


def _invalid_out(entry: InvalidDocument, base_url: str, run_count: int) -> ModelOut:
    """An invalid document, with its error for the owner."""
    message = f"{entry.error}: correct the document"
    identity = _identity(entry.id, base_url)
    return {
        "id": identity["id"],
        "owner": identity["owner"],
        "name": identity["name"],
        "url": identity["url"],
        "display_name": None,
        "description": "",
        "visibility": Visibility.PRIVATE,
        "run_count": run_count,
        "created_at": None,
        "latest_version": None,
        "default_example": None,
        "status": {
            "ready": False,
            "reason": Reason.INVALID_MODEL,
            "message": message,
            "replicas": 0,
            "ready_replicas": 0,
            "queued": 0,
            "in_flight": 0,
            "conditions": [
                {
                    "type": ConditionType.READY,
                    "status": ConditionStatus.FALSE,
                    "reason": Reason.INVALID_MODEL,
                    "message": message,
                }
            ],
            "log_tail": [],
        },
    }
