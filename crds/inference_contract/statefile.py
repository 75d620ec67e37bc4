"""Small JSON files that are replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference_contract import files

_MAX_BYTES = 1_000_000


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Raises OSError, for instance when the disk is full; the old content is then kept."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=1, default=str))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any] | None:
    """None if the file is missing or not a JSON object: a model's code may write to its runner's
    file."""
    try:
        content = json.loads(files.read(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
