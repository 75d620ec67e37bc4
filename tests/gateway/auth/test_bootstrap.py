"""The administrator that `inference up` makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inference_gateway.auth.bootstrap import main
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]


@pytest.fixture
def bootstrap(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    def run(username: str) -> tuple[int, str]:
        monkeypatch.setenv("DATABASE_URL", database_url)
        code = main(["--username", username])
        captured = capsys.readouterr()
        return code, (captured.err if code else captured.out).strip()

    return run


async def test_its_token_works_until_the_next(
    client: httpx.AsyncClient, bootstrap: Callable[[str], tuple[int, str]]
) -> None:
    (_, first), (_, second) = bootstrap("local"), bootstrap("local")
    answers = [
        (await client.get("/v1/account", headers={"Authorization": f"Bearer {token}"})).status_code
        for token in (first, second)
    ]
    assert answers == [401, 200]


async def test_nobody_logs_in_as_it(
    client: httpx.AsyncClient, bootstrap: Callable[[str], tuple[int, str]]
) -> None:
    bootstrap("local")
    for password in ("!", ""):
        form = {"username": "local", "password": password}
        assert (await client.post("/v1/auth/token", data=form)).status_code in (401, 422)


def test_an_ordinary_account_is_not_promoted(
    auth: Headers, bootstrap: Callable[[str], tuple[int, str]]
) -> None:
    auth("mallory")
    code, line = bootstrap("mallory")
    assert code == 1
    assert "no administrator" in line


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_run_that_hears_nothing_says_to_run_again(
    client: httpx.AsyncClient,
    settings: GatewaySettings,
    lossy_postgres: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_committed: bool,
) -> None:
    def run(url: str) -> tuple[int, str, str]:
        monkeypatch.setenv("DATABASE_URL", url)
        return main(["--username", "local"]), *capsys.readouterr()

    _, first, _ = run(settings.database_url)
    statement = b"INSERT INTO api_tokens"
    if is_committed:
        lossy_postgres.loses_commit_of = statement
    else:
        lossy_postgres.loses = statement
    code, _, line = run(lossy_postgres.url(settings.database_url))
    assert (code, line.count("\n"), "run this again" in line) == (1, 1, True)
    headers = {"Authorization": f"Bearer {first.strip()}"}
    still = (await client.get("/v1/account", headers=headers)).status_code
    assert still == (401 if is_committed else 200)
    _, second, _ = run(settings.database_url)
    headers = {"Authorization": f"Bearer {second.strip()}"}
    assert (await client.get("/v1/account", headers=headers)).status_code == 200
