from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference_runner.model_code import paths
from inference_runner.model_code.call import failure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '  File "/srv/models/secret/echo.py", line 3, in predict',
            '  File "echo.py", line 3, in predict',
        ),
        (
            "No such file or directory: '/home/ada/.inference/cache/x'",
            "No such file or directory: 'x'",
        ),
        ("cannot open /etc/ssl/: refused", "cannot open …: refused"),
        ("see https://example.com/a/b/c and text/plain, 1/2 or a/b/c", None),
        ("ratio 3/4, /x is short", None),
        ("", None),
    ],
)
def test_of_a_path_its_last_part_is_told(text: str, expected: str | None) -> None:
    assert paths.without(text) == (text if expected is None else expected)


def test_callers_hear_of_no_path_of_this_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    printed: list[str] = []
    run: Any = SimpleNamespace(id="p", attempt=1, print=printed.append)
    weights = tmp_path / "secret-folder" / "weights.bin"
    with pytest.raises(FileNotFoundError) as raised:
        weights.read_bytes()
    outcome = failure(run, raised.value)
    told = "".join(printed) + repr(outcome)
    assert "Traceback" in told
    assert "weights.bin" in told
    assert "FileNotFoundError" in told
    for part in ("secret-folder", str(tmp_path), str(Path(__file__).parent)):
        assert part not in told
    assert "secret-folder" in caplog.records[-1].exception  # type: ignore[attr-defined]
