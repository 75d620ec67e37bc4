"""The generator of the CustomResourceDefinition, which is a script and no package."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def generate() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(CRDS / "generate.py")))
