"""docs/models.md does what it says: its classes, documents and commands, on a real server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name

import guide
import pytest
import yaml
from guide import Bash, Block
from inference_stack import BIN, Stack

from inference_contract.inferencemodel import InferenceModel

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "models.md").read_text()
BLOCKS = guide.blocks(TEXT)
FIRST = yaml.safe_load(next(block.text for block in BLOCKS if block.language == "yaml"))
REFUSED = "inference: "
"""How a command begins what it says when it fails."""


def _commands() -> Iterator[tuple[Block, str]]:
    """What is to be done, in order, and what it is said to write."""
    for block, following in pairwise([*BLOCKS, Block("", "")]):
        if block.language != "text":
            yield block, following.text if following.language == "text" else ""


def _write(folder: Path, block: Block) -> None:
    assert block.file is not None, f"whose file is this?\n{block.text}"
    text = block.text
    if block.language == "yaml":
        text = yaml.safe_dump(guide.document(block, FIRST))
    file = folder / block.file
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_what_is_written_there_is_so(new_stack: Callable[..., Stack], tmp_path: Path) -> None:
    stack = new_stack()
    env = {**stack.env, "PATH": f"{BIN}{os.pathsep}{stack.env['PATH']}"}
    with Bash(env, tmp_path) as bash:
        for block, shown in _commands():
            if block.language in ("python", "yaml"):
                _write(tmp_path, block)
            elif block.language == "bash":
                script = block.text.replace("http://localhost:8000", stack.url)
                fails = re.search(f"^{REFUSED}", shown, re.MULTILINE)
                written = (bash.fails if fails else bash.run)(script)
                assert list(guide.not_written(shown, written)) == [], f"{script}\n{written}"


def test_every_block_is_run() -> None:
    """Those in `sh` are run by tests/kubernetes."""
    assert {block.language for block in BLOCKS} == {"python", "yaml", "bash", "sh", "text"}
    for before, block in pairwise(BLOCKS):
        assert block.language != "text" or before.language == "bash", block.text


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda b: b.file)
def test_a_document_is_valid(block: Block) -> None:
    content = guide.document(block, FIRST)
    content["metadata"]["namespace"] = "admin"
    InferenceModel.model_validate(content)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", TEXT))
def test_what_it_links_to_is_there(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


@pytest.mark.parametrize("name", re.findall(r"`(inference_runner\.[\w.]+)`", TEXT))
def test_a_class_that_it_names_is_there(name: str) -> None:
    assert isinstance(resolve_name(name), type)
