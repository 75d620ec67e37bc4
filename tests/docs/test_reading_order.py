"""The way of a model through the operator, as its README tells it, can be followed by a reader."""

from __future__ import annotations

import ast
import re
from pathlib import Path

OPERATOR = Path(__file__).parents[2] / "operator"
CLUSTER = OPERATOR / "inference_operator" / "cluster"
WAY = re.findall(r"^\d+\. `([a-z_/]+)`: (.*)$", (OPERATOR / "README.md").read_text(), re.MULTILINE)
FILES = [name for name, _ in WAY]
MOST_FILES, MOST_LINES = 12, 40


def _functions(name: str) -> dict[str, int]:
    """Of a file, with the lines of each."""
    nodes = ast.walk(ast.parse((CLUSTER / f"{name}.py").read_text()))
    return {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_it_is_short() -> None:
    assert 10 < len(FILES) <= MOST_FILES


def test_it_names_what_is_there() -> None:
    for name, about in WAY:
        named = re.findall(r"`(?:[A-Z]\w+\.)?(_?[a-z]\w*)`", about)
        assert set(named) <= {*_functions(name), *map(_stem, FILES)}, name


def test_each_file_but_the_first_is_used_by_one_before_it() -> None:
    """The mirror and the queue are handed over by `operator`."""
    programs = [(CLUSTER / f"{name}.py").read_text() for name in ("operator", *FILES)]
    for at, name in enumerate(FILES, 1):
        module = f"inference_operator.cluster.{name.replace('/', '.')} import"
        assert any(module in program for program in programs[:at]), name


def test_no_function_on_it_is_long() -> None:
    long = {
        f"{name}.{function}": lines
        for name in FILES
        for function, lines in _functions(name).items()
        if lines > MOST_LINES
    }
    assert long == {}


def _stem(name: str) -> str:
    return name.rpartition("/")[2]
