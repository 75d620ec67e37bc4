"""`inference users`, against a server that runs."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest


@pytest.fixture
def name(stack: Any) -> str:
    """An account, just registered."""
    name = f"u{uuid.uuid4().hex[:12]}"
    body = {"username": name, "email": f"{name}@example.com", "password": "password123"}
    httpx.post(f"{stack.url}/v1/auth/register", json=body).raise_for_status()
    return name


def _row(stack: Any, name: str) -> list[str]:
    lines = stack.run("users", "list").stdout.splitlines()
    return next((line.split() for line in lines if line.startswith(f"{name} ")), [])


def test_an_account_from_its_first_day_to_its_last(stack: Any, name: str) -> None:
    assert _row(stack, name)[1:3] == ["user", "active"]
    for command, said, shown in (
        ("disable", f"{name} disabled", ["user", "disabled"]),
        ("enable", f"{name} enabled", ["user", "active"]),
        ("promote", f"{name} is an administrator", ["admin", "active"]),
        ("demote", f"{name} is no administrator any more", ["user", "active"]),
    ):
        done = stack.run("users", command, name)
        assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr
        assert _row(stack, name)[1:3] == shown
    assert stack.run("users", "delete", name, "--yes").stdout == f"{name} deleted\n"
    assert _row(stack, name) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("delete", "nobody-here", "--yes"), "inference: no account nobody-here"),
        (("disable", "admin"), "inference: admin is the last administrator"),
        (("disable", "../models"), "inference: "),
    ],
)
def test_what_cannot_be_done_is_one_line(stack: Any, arguments: Any, said: str) -> None:
    done = stack.run("users", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
