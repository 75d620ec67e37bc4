"""The URL that a model's runners get, and what is kept of an earlier one."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import parse_url

from inference_operator.redis.credentials import runner_url, url_in

MADE = "redis://inference%3A0%3Aalice_m:new@r:6379/0"


@pytest.mark.parametrize(
    ("operators", "runners"),
    [
        ("redis://:admin@r:6379/0", MADE),
        ("redis://r", "redis://inference%3A0%3Aalice_m:new@r"),
        (
            "rediss://op:p%40ss@[fd00::1]:6380/3?protocol=3",
            "rediss://inference%3A3%3Aalice_m:new@[fd00::1]:6380/3?protocol=3",
        ),
        (
            "redis://r/?username=op&password=admin&db=2",
            "redis://inference%3A2%3Aalice_m:new@r/?db=2",
        ),
        ("unix:///run/valkey.sock", "unix://inference%3A0%3Aalice_m:new@/run/valkey.sock"),
    ],
)
def test_the_operators_url_with_the_models_user(operators: str, runners: str) -> None:
    made = runner_url("alice_m", operators, (), lambda: "new")
    assert made == runners
    database = str(parse_url(operators).get("db", 0))
    known = parse_url(made)
    assert known.pop("username") == f"inference:{database}:alice_m"
    assert known.pop("password") == "new"
    theirs = parse_url(operators)
    for name in ("username", "password"):
        theirs.pop(name, None)
    assert known == theirs


@pytest.mark.parametrize(
    ("earlier", "password"),
    [
        ([MADE.replace("new", "kept%2F")], "kept%2F"),
        ([MADE.replace("new@r", "kept@elsewhere")], "kept"),
        (["", MADE.replace("new", "known")], "known"),
        ([MADE.replace("new", "there"), MADE.replace("new", "known")], "there"),
        (["redis://:shared@r:6379/0"], "new"),
        (["redis://inference%3A0%3Abob_m:other@r"], "new"),
        (["redis://inference%3A1%3Aalice_m:other@r"], "new"),
        (["redis://inference%3A0%3Aalice_m@r"], "new"),
        (["redis://[r"], "new"),
    ],
)
def test_the_password_is_made_once(earlier: list[str], password: str) -> None:
    made = runner_url("alice_m", "redis://:admin@r:6379/0", earlier, lambda: "new")
    assert made == MADE.replace("new", password)


@pytest.mark.parametrize(
    ("secret", "url"),
    [
        ({"data": {"REDIS_URL": "cmVkaXM6Ly9y"}}, "redis://r"),
        ({"data": {"REDIS_URL": "/w=="}}, ""),
        ({"data": {"REDIS_URL": "?"}}, ""),
        ({"data": {"OTHER": "cmVkaXM6Ly9y"}}, ""),
        ({"data": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_what_a_secret_holds(secret: dict[str, Any] | None, url: str) -> None:
    assert url_in(secret) == url


def test_passwords_are_long_and_differ() -> None:
    one, other = (parse_url(runner_url("a_m", "redis://r")) for _ in range(2))
    assert len(one["password"]) >= 43
    assert one["password"] != other["password"]
