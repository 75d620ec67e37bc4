"""The administrator that `inference up` makes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from inference_gateway.auth.bootstrap import main

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
