"""Documents whose code blocks are run: the blocks, and a session of bash that they share."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"# (\S+\.\w+)\b")


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that its first line names, as in `# my-models/shout.py`."""
        title = _TITLE.match(self.text)
        return title[1] if title else None


def blocks(text: str) -> list[Block]:
    return [Block(language, code) for language, code in _FENCE.findall(text)]


def document(block: Block, first: Mapping[str, Any]) -> dict[str, Any]:
    """The whole document of a block that shows only the differences from the first one's spec."""
    assert block.file is not None
    content: dict[str, Any] = yaml.safe_load(block.text)
    if "kind" in content:
        return content
    metadata = {"name": Path(block.file).stem}
    return {**first, "metadata": metadata, "spec": {**first["spec"], **content["spec"]}}


class Bash:
    """One session: variables and functions are kept between blocks; a failure ends it."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(env),
            cwd=folder,
        )

    def __enter__(self) -> Bash:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def run(self, script: str) -> str:
        """The output of a script. Raises AssertionError if a command fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{script}\nprintf '\\n%s\\n' end-of-block\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line == "end-of-block\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"bash ended with {self._process.wait()}:\n{script}\n{''.join(lines)}")

    def fails(self, script: str) -> str:
        """The output of a script whose last command fails. Raises AssertionError if it does not."""
        return self.run(f"code=0\n{{\n{script}\n}} || code=$?\ntest $code != 0")


def not_written(shown: str, written: str) -> Iterable[str]:
    """The lines of `shown` that are not in `written`, in this order. `…` stands for any text;
    `written` may have more lines, such as progress."""
    following = iter(written.splitlines())
    for line in shown.splitlines():
        pattern = ".*".join(map(re.escape, line.rstrip().split("…")))
        if not any(re.fullmatch(pattern, found.rstrip()) for found in following):
            yield line
