"""The `openapi_schema` of a model's version, as Cog writes it and Replicate's clients read it."""

from __future__ import annotations

from typing import Any

from inference_contract.inferencemodel import InferenceModelSpec
from inference_contract.parameters import INTERFACES, json_schema


def openapi_schema(spec: InferenceModelSpec) -> dict[str, Any]:
    inputs = json_schema(spec.parameters(), spec.one_of())
    for order, schema in enumerate(inputs["properties"].values()):
        schema["x-order"] = order
    return {
        "openapi": "3.1.0",
        "info": {"title": spec.display_name or "Model", "version": spec.version},
        "paths": {},
        "components": {
            "schemas": {
                "Input": {"title": "Input", **inputs},
                "Output": {"title": "Output", **INTERFACES[spec.type].output},
            }
        },
    }
