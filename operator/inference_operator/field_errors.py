"""What pydantic says of an InferenceModel, for people."""

from __future__ import annotations

from pydantic import ValidationError


def field_errors(error: ValidationError) -> list[str]:
    """`spec.maxReplicas: Input should be …`, one for each wrong field."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"]) or "document"
        found.append(f"{field}: {item['msg'].removeprefix('Value error, ')}")
    return found
