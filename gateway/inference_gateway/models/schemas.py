"""Request bodies of the model routes."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference_contract import field_errors
from inference_contract.field_errors import FieldError
from inference_contract.inferencemodel import InferenceModel, Visibility
from inference_contract.modeltype import ModelType
from inference_contract.parameters import Parameter
from inference_gateway.errors import Invalid
from inference_gateway.models import documents

_SEPARATORS = re.compile(r"[^a-z0-9]+")


class NewModel(BaseModel):
    """The short form; the other form is a whole InferenceModel document."""

    # pydantic reserves the prefix `model_` by default.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str = Field(min_length=1, max_length=100)
    """A display name: "GPT-2" becomes `gpt-2`."""
    description: str = ""
    model_type: ModelType
    version: str = "1"
    model_path: str = Field(
        min_length=1, description="Repository of the hub, or (administrators) a path."
    )
    hardware: str = "cpu"
    input_schema: dict[str, Parameter] = Field(default_factory=dict)
    visibility: Visibility = Visibility.PRIVATE
    min_replicas: int = 0
    max_replicas: int = 1
    class_name: str | None = Field(None, description="module:Class, for model type custom.")
    display_name: str | None = None


def resource_name(name: str) -> str:
    """A DNS label of at most 40 characters for a display name; may be empty."""
    return _SEPARATORS.sub("-", name.lower()).strip("-")[:40].rstrip("-")


def is_path(model_path: str) -> bool:
    """Whether this is a path on the runner's machine; otherwise it is a repository of the hub."""
    return model_path.startswith(("/", "./", "../", "~")) or model_path in (".", "..")


_FIELD_NAMES = {
    "metadata.name": "name",
    "spec.type": "model_type",
    "spec.displayName": "display_name",
    "spec.source.path": "model_path",
    "spec.source.hub.repo": "model_path",
    "spec.source.hub.revision": "model_path",
    "spec.engine.className": "class_name",
    "spec.inputSchema": "input_schema",
    "spec.minReplicas": "min_replicas",
    "spec.maxReplicas": "max_replicas",
}
"""Fields of the document that have another name in the short form."""


def parse_new_model(body: object, owner: str) -> InferenceModel:
    """Either form of the body of `POST /v1/models`.

    Raises:
        Invalid: naming the fields as the caller wrote them, below `body`.
    """
    if isinstance(body, dict) and ("apiVersion" in body or "kind" in body):
        return parse_document(body)
    try:
        short = NewModel.model_validate(body)
    except ValidationError as error:
        raise _invalid(documents.InvalidModel(field_errors.of(error))) from error
    try:
        return documents.parse(_document(short, owner))
    except documents.InvalidModel as error:
        raise _invalid(error, short_form=True) from error


def parse_document(body: object) -> InferenceModel:
    """Raises Invalid."""
    try:
        return documents.parse(body)
    except documents.InvalidModel as error:
        raise _invalid(error) from error


def _document(short: NewModel, owner: str) -> dict[str, Any]:
    name = resource_name(short.name)
    display_name = short.display_name or (short.name if short.name != name else None)
    spec: dict[str, Any] = {
        "type": short.model_type,
        "description": short.description,
        "visibility": short.visibility,
        "version": short.version,
        "source": _source(short.model_path),
        "hardware": short.hardware,
        "minReplicas": short.min_replicas,
        "maxReplicas": short.max_replicas,
        "inputSchema": {
            name: parameter.model_dump(exclude_unset=True)
            for name, parameter in short.input_schema.items()
        },
    }
    if display_name:
        spec["displayName"] = display_name
    if short.class_name is not None:
        spec["engine"] = {"className": short.class_name}
    return {"metadata": {"name": name, "namespace": owner}, "spec": spec}


def _source(model_path: str) -> dict[str, Any]:
    if is_path(model_path):
        return {"path": model_path}
    repo, _, revision = model_path.partition("@")
    return {"hub": {"repo": repo, "revision": revision} if revision else {"repo": repo}}


def _invalid(error: documents.InvalidModel, *, short_form: bool = False) -> Invalid:
    errors: list[FieldError] = []
    for item in error.errors:
        field = item["field"]
        if short_form:
            field = _short_field(field)
        errors.append({"field": f"body.{field}" if field else "body", "message": item["message"]})
    return Invalid.of(errors)


def _short_field(field: str) -> str:
    for long, short in _FIELD_NAMES.items():
        if field == long or field.startswith(f"{long}."):
            return short + field[len(long) :]
    return "" if field == "spec" else field.removeprefix("spec.")
