"""InferenceModel documents of one machine, reread when their file changes."""

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
    """A document that is not a valid InferenceModel."""

    message: str
    """Names the field and the error."""
    last_valid: InferenceModel | None
    """The model from the file's last valid content, if it was read."""


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
        except Exception as error:  # the other documents must still be read
            log.exception("a document cannot be checked", extra=story)
            message = values.text(f"document: cannot be checked: {error}")
        return InvalidDocument(
            message, before.last_valid if isinstance(before, InvalidDocument) else before
        )


def parse(path: Path) -> InferenceModel:
    """Parse the document in this file.

    The folder's name is the owner; a relative `spec.source.path` is relative to the folder.

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
    model.spec.autoscaling.mode = ScalingMode.OPERATOR  # Only this operator can scale processes.
    if model.spec.source.path is not None:
        model.spec.source.path = str(path.parent / model.spec.source.path)
    return model


def _refuse_kubernetes(model: InferenceModel) -> None:
    """Raises ValueError for a field that names a Kubernetes object."""
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
    """Parse YAML without validation. Raises ValueError."""
    try:
        yamlevents.check(yaml.parse(text, _Loader))
        content = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yamlevents.Wrong:
        raise
    except Exception as error:  # constructors of dates and numbers raise their own errors
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError("not a mapping with apiVersion, kind, metadata and spec")
    return content
