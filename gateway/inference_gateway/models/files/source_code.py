"""The digest of a custom model's code: a change of the code is a new version of the model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from inference_contract.inferencemodel import InferenceModel
from inference_contract.modeltype import ModelType

MAX_FILES = 500
MAX_BYTES = 2_000_000
"""Size of a file. Changes beyond these limits are not detected; they bound the time of a PUT."""


def stamped(model: InferenceModel) -> InferenceModel:
    """The model with the digest of its Python files, if its code is a folder of this machine."""
    source = model.spec.source
    digest = None
    if model.spec.type is ModelType.CUSTOM and source.path is not None:
        digest = _digest(Path(source.path).expanduser())
    if digest == source.digest:
        return model
    changed = source.model_copy(update={"digest": digest})
    return model.model_copy(update={"spec": model.spec.model_copy(update={"source": changed})})


def _digest(path: Path) -> str | None:
    """None if the folder is missing: the runner reports that."""
    folder = path if path.is_dir() else path.parent
    digest, count = hashlib.sha256(), 0
    for file in _python_files(folder):
        content = hashlib.sha256(_content(file)).hexdigest()
        digest.update(f"{file.relative_to(folder)} {content}\n".encode("utf-8", "replace"))
        count += 1
        if count == MAX_FILES:
            break
    return digest.hexdigest()[:16] if count else None


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in sorted(files):
            if name.endswith(".py") and (Path(parent) / name).is_file():
                yield Path(parent) / name


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES)
    except OSError:
        return b""
