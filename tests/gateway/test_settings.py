"""Starting with settings that are missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError, read_settings

GOOD = {"DATABASE_URL": "postgresql:///x", "SECRET_KEY": "x" * 32}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An empty one, in a folder without `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_the_seeds_names(environment: pytest.MonkeyPatch) -> None:
    for name, value in {**GOOD, "API_PORT": "1234", "REDIS_HOST": "cache"}.items():
        environment.setenv(name, value)
    settings = read_settings()
    assert (settings.api_port, settings.redis_dsn) == (1234, "redis://cache:6379/0")


def test_an_env_file_is_read(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert read_settings().database_url == "postgresql:///x"


def test_a_line_for_each_that_is_missing(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_settings()
    first, second = sorted(str(refused.value).splitlines())
    assert first.startswith("DATABASE_URL is not set (postgresql://")
    assert second.startswith("SECRET_KEY is not set (")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SECRET_KEY", "short-one", "SECRET_KEY needs at least 32 random bytes"),
        ("SECRET_KEY", "x" * 31, "SECRET_KEY needs at least 32 random bytes"),
        ("API_PORT", "eighty", "API_PORT should be a valid integer"),
        ("API_PORT", "70000", "API_PORT should be less than or equal to 65535"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL "),
    ],
)
def test_one_line_that_names_the_variable(
    environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    for key, good in {**GOOD, name: value}.items():
        environment.setenv(key, good)
    with pytest.raises(ConfigurationError) as refused:
        read_settings()
    line = str(refused.value)
    assert line.startswith(message)
    assert "\n" not in line
    assert name != "SECRET_KEY" or value not in line
