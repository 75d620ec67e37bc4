"""Errors in documents, requests and environments, field by field, as readable text.

The only module that reads pydantic's error details.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict


class FieldError(TypedDict):
    field: str
    """Path of the field, dotted: `input.prompt`. Empty: the whole."""
    message: str


def of(error: ValidationError) -> list[FieldError]:
    """Fields in the spelling of the document. Without the values: a secret must not reach a log."""
    return from_details(_details(error))


def from_details(details: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """From pydantic's error details, also as collected by FastAPI."""
    return [_field_error(detail) for detail in details]


def first(errors: Sequence[FieldError]) -> str:
    """The first error, for messages with space for one."""
    return line(errors[0])


def all_of(error: ValidationError) -> str:
    """All errors in one line."""
    return "; ".join(map(line, of(error)))


def line(error: FieldError) -> str:
    return ": ".join(part for part in (error["field"], error["message"]) if part)


def of_settings(error: ValidationError, settings: type[BaseModel]) -> str:
    """A line per setting, each naming its environment variable and what it is for."""
    lines = []
    for detail in _details(error):
        name = str(detail["loc"][0]) if detail["loc"] else "settings"
        field = settings.model_fields.get(name)
        about = (field.description if field else None) or ""
        message = _message(detail).replace("Input should", "should")
        problem = "is not set" if detail["type"] == "missing" else message
        lines.append(f"{name.upper()} {problem}" + (f" ({about.rstrip('.')})" if about else ""))
    return "\n".join(lines)


def _details(error: ValidationError) -> Iterable[Mapping[str, Any]]:
    return error.errors(include_input=False, include_url=False, include_context=False)


def _field_error(detail: Mapping[str, Any]) -> FieldError:
    # For invalid JSON the last part of the location is a character position, not a field.
    path = detail["loc"][:-1] if detail["type"] == "json_invalid" else detail["loc"]
    return {"field": ".".join(map(str, path)), "message": _message(detail)}


def _message(detail: Mapping[str, Any]) -> str:
    return str(detail["msg"]).removeprefix("Value error, ")
