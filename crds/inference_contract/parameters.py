"""Input parameters of a model and the JSON Schema they stand for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference_contract.modeltype import ModelType


class Parameter(BaseModel):
    """One input: a JSON Schema keyword subset, plus whether it may be left out.

    A parameter without a default is required, unless `required` says otherwise.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["string", "integer", "number", "boolean", "array", "object"]
    description: str = Field("", max_length=2000)
    default: Any = None
    required: bool | None = None
    enum: list[Any] | None = Field(None, min_length=1, max_length=1000)
    minimum: float | int | None = None
    maximum: float | int | None = None
    maxLength: int | None = Field(None, ge=0)  # noqa: N815 - JSON Schema's own spelling
    items: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Parameter:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum must not exceed maximum")
        return self

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required


def json_schema(parameters: dict[str, Parameter]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an `input` object; unknown names are refused."""
    properties: dict[str, Any] = {}
    for name, parameter in parameters.items():
        schema = parameter.model_dump(exclude_none=True, exclude={"required"})
        properties[name] = {key: value for key, value in schema.items() if value != ""}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, p in parameters.items() if p.is_required],
        "additionalProperties": False,
    }


_TEXT_GENERATION = {
    "prompt": Parameter(type="string", description="Text, or one user turn for a chat model."),
    "max_new_tokens": Parameter(type="integer", default=128, minimum=1, maximum=32_768),
    "temperature": Parameter(
        type="number", default=0.0, minimum=0, maximum=2, description="0 is greedy."
    ),
    "top_p": Parameter(type="number", default=1.0, minimum=0, maximum=1),
    "top_k": Parameter(type="integer", default=0, minimum=0, maximum=1000, description="0: all."),
    "seed": Parameter(type="integer", required=False, description="Default: from the id."),
    "stop": Parameter(type="array", required=False, items={"type": "string"}),
}
_IMAGE = Parameter(type="string", description="An https: or data: URL of a picture.")
_DEFAULTS: dict[str, dict[str, Parameter]] = {
    "text-generation": _TEXT_GENERATION,
    "text-to-image": {
        "prompt": Parameter(type="string"),
        "num_inference_steps": Parameter(type="integer", default=20, minimum=1, maximum=500),
        "width": Parameter(type="integer", default=512, minimum=8, maximum=4096),
        "height": Parameter(type="integer", default=512, minimum=8, maximum=4096),
        "seed": Parameter(type="integer", required=False),
    },
    "image-to-text": {
        "image": _IMAGE,
        "max_new_tokens": Parameter(type="integer", default=64, minimum=1, maximum=4096),
    },
    "classification": {"text": Parameter(type="string")},
    "custom": {},
}


def default_parameters(model_type: ModelType) -> dict[str, Parameter]:
    """What a model of this type takes when its document names no inputSchema."""
    return _DEFAULTS[model_type]
