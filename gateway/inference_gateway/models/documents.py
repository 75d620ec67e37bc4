"""Parses and writes InferenceModel documents."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inference_contract import field_errors, files, values, yamlevents
from inference_contract.field_errors import FieldError
from inference_contract.inferencemodel import InferenceModel

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000


class InvalidModel(Exception):
    """The message names the first field that is wrong; `errors` has them all."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(field_errors.first(errors))
        self.errors = errors


def parse(content: object) -> InferenceModel:
    """Check a document that was read as YAML or JSON.

    Raises:
        InvalidModel: naming the fields.
    """
    if not isinstance(content, dict):
        raise InvalidModel([{"field": "", "message": "an InferenceModel is a mapping"}])
    # A status sent by a client is ignored.
    content = {key: value for key, value in content.items() if key != "status"}
    try:
        model = InferenceModel.model_validate(content)
    except ValidationError as error:
        raise InvalidModel(field_errors.of(error)) from error
    except Exception as error:  # the other documents must still be read
        log.exception("a document cannot be checked")
        message = f"cannot be checked: {type(error).__name__}: {values.text(str(error))[:300]}"
        raise InvalidModel([{"field": "", "message": message}]) from error
    return model


def read(path: Path) -> InferenceModel:
    """Raises InvalidModel, OSError."""
    try:
        content = files.read(path, MAX_BYTES)
    except ValueError as error:
        raise InvalidModel([{"field": "", "message": str(error)}]) from error
    return load(content)


def load(text: bytes) -> InferenceModel:
    """Raises InvalidModel."""
    try:
        yamlevents.check(yaml.parse(text, _Loader))
        content: Any = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yamlevents.Wrong as error:
        raise InvalidModel([{"field": "", "message": str(error)}]) from error
    except Exception as error:  # constructors of dates and numbers raise their own errors
        message = " ".join(str(error).split())
        raise InvalidModel([{"field": "", "message": f"not YAML: {message}"}]) from error
    return parse(content)


def dump(model: InferenceModel) -> bytes:
    """The document as YAML, without default values."""
    content = {
        "apiVersion": model.api_version,
        "kind": model.kind,
        "metadata": model.metadata.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "spec": model.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
    text: bytes = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    return text


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
