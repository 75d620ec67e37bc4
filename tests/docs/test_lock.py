"""requirements.lock pins everything, with hashes, and names no place to fetch it from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def _blocks() -> list[str]:
    """One text per pinned package: its line and its hashes."""
    return re.split(r"\n(?=\S)", "\n".join(re.findall(r"^[^#].*", LOCK, re.MULTILINE)))


def _declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = PROJECT["dependency-groups"].values()
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    lines += [line for section in (*extras, *groups) for line in section]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != PROJECT["project"]["name"]]


def test_it_holds_no_address() -> None:
    assert not re.search(r"://|\bgit\+|--(extra-)?index|--find-links|@ ", LOCK)


def test_every_package_is_pinned_with_a_hash() -> None:
    assert len(_blocks()) > 100
    for block in _blocks():
        assert PIN.match(block), block
        assert "--hash=sha256:" in block, block.splitlines()[0]


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_it_pins_a_version_that_the_project_allows(requirement: Requirement) -> None:
    pinned = {
        match["version"]
        for match in PIN.finditer(LOCK)
        if canonicalize_name(match["name"]) == canonicalize_name(requirement.name)
    }
    assert pinned
    assert all(requirement.specifier.contains(version) for version in pinned)
