"""The `openapi_schema` of a model's version, as Cog writes it and Replicate's clients read it."""

from __future__ import annotations

from typing import Any

from inference_contract.inferencemodel import InferenceModelSpec
from inference_contract.modeltype import ModelType
from inference_contract.parameters import json_schema

_OUTPUTS: dict[ModelType, dict[str, Any]] = {
    ModelType.TEXT_GENERATION: {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "description": "Where tools or logprobs were asked for.",
                "properties": {"choices": {"type": "array", "items": {"type": "object"}}},
                "required": ["choices"],
            },
        ]
    },
    ModelType.TEXT_TO_IMAGE: {"type": "string", "format": "uri"},
    ModelType.IMAGE_TO_TEXT: {"type": "string"},
    ModelType.CLASSIFICATION: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
            "required": ["label", "score"],
        },
    },
    ModelType.CUSTOM: {},
}


def openapi_schema(spec: InferenceModelSpec) -> dict[str, Any]:
    inputs = json_schema(spec.parameters())
    for order, schema in enumerate(inputs["properties"].values()):
        schema["x-order"] = order
    return {
        "openapi": "3.1.0",
        "info": {"title": spec.display_name or "Model", "version": spec.version},
        "paths": {},
        "components": {
            "schemas": {
                "Input": {"title": "Input", **inputs},
                "Output": {"title": "Output", **_OUTPUTS[spec.type]},
            }
        },
    }
