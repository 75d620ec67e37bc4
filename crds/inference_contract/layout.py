"""Paths of InferenceModel documents on one machine: a folder per owner, a file per model.

models/<owner>/<name>.yaml     the document, written by people or by the gateway
models/<owner>/.owner          id of the account that the folder belongs to, written by the gateway
status/<owner>/<name>.json     its status, written only by the operator of one machine
"""

from __future__ import annotations

from pathlib import Path

from inference_contract import values


def models_dir(home: Path) -> Path:
    return home / "models"


def model_file(home: Path, owner: str, name: str) -> Path:
    return models_dir(home) / owner / f"{name}.yaml"


def owner_file(home: Path, owner: str) -> Path:
    return models_dir(home) / owner / ".owner"


def status_file(home: Path, owner: str, name: str) -> Path:
    return home / "status" / owner / f"{name}.json"


def model_files(home: Path) -> dict[str, Path]:
    """Model id (`owner/name`) → file of every document, sorted by id."""
    found = models_dir(home).glob("*/*.yaml")
    files = {f"{path.parent.name}/{path.stem}": path for path in sorted(found)}
    # A file's name may be any bytes; names that are not text are skipped.
    return {model_id: path for model_id, path in files.items() if values.is_text(model_id)}
