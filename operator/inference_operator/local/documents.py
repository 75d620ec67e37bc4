"""InferenceModel documents of one machine, read again when their file changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inference_contract import field_errors, files, layout, values, yamlevents
from inference_contract.inferencemodel import InferenceModel, ScalingMode

MAX_BYTES = 1_000_000
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InvalidDocument:
    """A document that is no InferenceModel."""

    message: str
    """Names the field, and what is wrong with it."""
    last_valid: InferenceModel | None
    """What the file said before, if we saw it."""


Document = InferenceModel | InvalidDocument
_Stamp = tuple[int, int, int]


class Documents:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[str, tuple[_Stamp, Document]] = {}

    def read(self) -> dict[str, Document]:
        """Every document by model id, sorted."""
        found: dict[str, tuple[_Stamp, Document]] = {}
        for model_id, path in layout.model_files(self._home).items():
            try:
                stat = path.stat()
            except OSError:  # Deleted since it was listed.
                continue
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._read.get(model_id)
            if known is None or known[0] != stamp:
                known = (stamp, self._parse(path, known[1] if known else None))
            found[model_id] = known
        self._read = found
        return {model_id: document for model_id, (_, document) in found.items()}

    def _parse(self, path: Path, before: Document | None) -> Document:
        story = {"model": f"{path.parent.name}/{path.stem}"}
        try:
            return parse(path)
        except ValueError as error:
            log.warning("invalid document: %s", error, extra=story)
            message = values.text(str(error))
        except Exception as error:  # of all documents, the others must be read
            log.exception("a document cannot be checked", extra=story)
            message = values.text(f"document: cannot be checked: {error}")
        return InvalidDocument(
            message, before.last_valid if isinstance(before, InvalidDocument) else before
        )


def parse(path: Path) -> InferenceModel:
    """The document in this file.

    Its owner is the folder; a relative `spec.source.path` starts there.

    Raises:
        ValueError: naming the field.
    """
    content = _load(path)
    metadata = content.setdefault("metadata", {})
    if isinstance(metadata, dict):
        for key, expected in (("namespace", path.parent.name), ("name", path.stem)):
            if metadata.setdefault(key, expected) != expected:
                raise ValueError(
                    f"metadata.{key}: is {metadata[key]!r}, but the file says {expected!r}: "
                    "a document lies in models/<namespace>/<name>.yaml"
                )
    content.pop("status", None)
    try:
        model = InferenceModel.model_validate(content)
    except ValidationError as error:
        raise ValueError(field_errors.all_of(error)) from error
    _refuse_kubernetes(model)
    model.spec.autoscaling.mode = ScalingMode.OPERATOR  # Nobody else could scale processes.
    if model.spec.source.path is not None:
        model.spec.source.path = str(path.parent / model.spec.source.path)
    return model


def _refuse_kubernetes(model: InferenceModel) -> None:
    """Raises ValueError for what names an object that this machine does not have."""
    if model.spec.source.pvc is not None:
        raise ValueError("spec.source.pvc: is for Kubernetes; on one machine use source.path")
    for entry in model.spec.env:
        if entry.value_from is not None:
            field = f"spec.env.{entry.name}.valueFrom"
            raise ValueError(f"{field}: is for Kubernetes; on one machine use value")


def _load(path: Path) -> dict[str, Any]:
    try:
        text = files.read(path, MAX_BYTES)
    except OSError as error:
        raise ValueError(f"document: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"document: {error}") from error
    try:
        return load(text)
    except ValueError as error:
        raise ValueError(f"document: {error}") from error


def load(text: bytes) -> dict[str, Any]:
    """A document as its author wrote it. Raises ValueError."""
    try:
        yamlevents.check(yaml.parse(text, _Loader))
        content = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yamlevents.Wrong:
        raise
    except Exception as error:  # YAML's tags make dates, numbers and more, and fail as these do
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError("not a mapping with apiVersion, kind, metadata and spec")
    return content
