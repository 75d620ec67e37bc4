"""Reading files that somebody else writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference_contract import files


def test_a_pipe_that_has_something_to_say_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        os.write(writer, b"said")
        with pytest.raises(OSError, match="is no file"):
            files.read(path, 100)
    finally:
        os.close(writer)
