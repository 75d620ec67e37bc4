"""One small model for the tests that need no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import text_engine
import tiny_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_models.text_generator(folder, max_position_embeddings=600)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return text_engine.load(folder)


@pytest.fixture
def engine(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield loaded
    for number in range(16):
        loaded.remove(str(number))
