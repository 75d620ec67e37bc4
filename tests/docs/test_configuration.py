"""docs/configuration.md lists every setting with its default; .env.example sets none that bites."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from inference_contract.pods import RunnerEnv
from inference_gateway.settings import GatewaySettings
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.local.settings import LocalSettings as OperatorSettings

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "operator": OperatorSettings,
    "kubernetes": ClusterSettings,
}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+?) \|$", re.MULTILINE)


def _documented() -> dict[tuple[str, str], tuple[str, str]]:
    """(process, variable) → (default, meaning)."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    return {(who, name): (default, meaning) for name, who, default, meaning in ROW.findall(text)}


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "unset"
    if default == "":
        return '`""`'
    if isinstance(default, dict):
        return f"`{json.dumps(default, separators=(',', ':'))}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _read_by_the_command_line() -> set[str]:
    """Variables that appear as quoted names in the sources of the local stack's command line."""
    names: set[str] = set()
    for path in (ROOT / "operator" / "inference_local").rglob("*.py"):
        names |= set(re.findall(r'(?:envvar="|environ(?:\.get\(|\[)")([A-Z_]+)"', path.read_text()))
    return names - {"PATH", "HOME"}


@pytest.mark.parametrize("process", SETTINGS)
def test_settings_are_documented_with_their_defaults(process: str) -> None:
    expected = {
        name.upper(): _shown(field.default)
        for name, field in SETTINGS[process].model_fields.items()
    }
    documented = {name: row[0] for (who, name), row in _documented().items() if who == process}
    assert documented == expected


def test_the_environment_of_a_runner_is_documented() -> None:
    assert {name for who, name in _documented() if who == "runner"} == set(RunnerEnv)


def test_the_environment_of_the_command_line_is_documented() -> None:
    documented = {name for who, name in _documented() if who == "inference"}
    assert documented == _read_by_the_command_line()


def test_the_example_environment_names_settings_only_and_holds_no_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = dict(re.findall(r"^#? ?([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))
    known = {name for _, name in _documented()}
    assert set(pairs) <= known
    assert {"DATABASE_URL", "REDIS_HOST", "SECRET_KEY", "API_PORT"} <= set(pairs)
    assert not any(value for name, value in pairs.items() if re.search("SECRET|PASSWORD", name))
