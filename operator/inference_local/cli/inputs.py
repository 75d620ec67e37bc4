"""`-i key=value` and `--file key=path` → a prediction's input."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

_TYPES: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def parse(
    pairs: Sequence[str], files: Sequence[str], schema: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Raises typer.BadParameter."""
    given = {
        key: value_for(text, schema.get(key, {}).get("type"))
        for key, text in (_split(pair, "-i") for pair in pairs)
    }
    return given | {key: data_url(Path(path)) for key, path in (_split(f, "--file") for f in files)}


def value_for(text: str, wanted: str | None) -> Any:
    """The parsed JSON if its type is the one in the schema, else the text itself: the server checks
    the whole schema and reports the error."""
    if wanted not in _TYPES:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_right = isinstance(value, _TYPES[wanted]) and (
        isinstance(value, bool) == (wanted == "boolean")
    )
    return value if is_right else text


def data_url(path: Path) -> str:
    """Raises typer.BadParameter."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--file") from error
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _split(pair: str, option: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{pair!r} is not key=value", param_hint=option)
    return key, value
