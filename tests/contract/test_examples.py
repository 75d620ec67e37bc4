"""Every example is a valid document, and there is one for each type."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_contract.inferencemodel import InferenceModel
from inference_contract.modeltype import ModelType

EXAMPLES = Path(__file__).parents[2] / "crds" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def _load(file: Path) -> InferenceModel:
    """As `inference models apply` does: the owner comes from who applies it."""
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["metadata"].setdefault("namespace", "alice")
    return InferenceModel.model_validate(document)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_valid_and_named_as_its_file(file: Path) -> None:
    assert _load(file).metadata.name == file.stem


def test_every_type_has_an_example() -> None:
    assert {_load(file).spec.type for file in FILES} == set(ModelType)


def test_the_custom_example_has_its_class() -> None:
    spec = _load(EXAMPLES / "echo.yaml").spec
    module, _, name = str(spec.engine.class_name).partition(":")
    file = EXAMPLES / str(spec.source.path) / f"{module}.py"
    found = importlib.util.spec_from_file_location(module, file)
    assert found
    assert found.loader
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    model = getattr(loaded, name)()
    model.load()
    assert model.predict({"text": "hello"}) == "hello"
