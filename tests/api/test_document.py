"""The gateway over HTTP, as its OpenAPI document describes it, by schemathesis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzed import SETTINGS, Fuzzed
from inference_stack import Stack


@pytest.mark.timeout(300)  # Some 60 s where nothing else runs.
def test_whatever_is_sent_is_answered_as_the_document_says(
    new_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    fuzzed = Fuzzed(new_stack(**SETTINGS), tmp_path)
    try:
        found = fuzzed.attack("--generation-deterministic", "--max-examples", "6")
        assert found == "", found
        assert fuzzed.answers().total() > 1000
    finally:
        fuzzed.close()
