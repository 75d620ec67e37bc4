"""Accounts: registering, logging in, tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inference_gateway.settings import GatewaySettings

PERSON = {"username": "testuser", "email": "test@example.com", "password": "password123"}
Headers = Callable[..., dict[str, str]]


async def register(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/auth/register", json={**PERSON, **changes})


async def log_in(client: httpx.AsyncClient, password: str = "password123") -> httpx.Response:
    form = {"username": "testuser", "password": password}
    return await client.post("/v1/auth/token", data=form)


async def test_the_seeds_own_calls(client: httpx.AsyncClient) -> None:
    registered = await register(client)
    assert registered.status_code == 201
    assert registered.json().keys() == {"id", "username", "email", "created_at"}
    token = (await log_in(client)).json()
    assert (token["token_type"], token["expires_in"]) == ("bearer", 900)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    account = (await client.get("/v1/account", headers=headers)).json()
    assert (account["type"], account["username"]) == ("user", "testuser")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"username": "Upper"}, "body.username"),
        ({"username": "-dash"}, "body.username"),
        ({"username": "a" * 41}, "body.username"),
        ({"username": "kube-system"}, "body.username"),
        ({"username": "default"}, "body.username"),
        ({"username": "admin"}, "body.username"),
        ({"email": "nobody"}, "body.email"),
        ({"password": "short"}, "body.password"),
        ({"password": "x" * 129}, "body.password"),
        ({"is_admin": True}, "body.is_admin"),
        ({"email": "a\x00@b"}, "body.email"),
    ],
)
async def test_a_registration_that_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    refused = await register(client, **changes)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_a_password_is_not_repeated_in_the_answer(client: httpx.AsyncClient) -> None:
    assert "tiny" not in (await register(client, password="tiny")).text


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"email": "other@example.com"}, "username"), ({"username": "x"}, "email")],
)
async def test_what_is_taken(
    client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    await register(client)
    taken = await register(client, **changes)
    assert taken.status_code == 409
    assert taken.json()["errors"] == [{"field": f"body.{field}", "message": "is taken"}]


async def test_registration_can_be_closed(
    client: httpx.AsyncClient, settings: GatewaySettings
) -> None:
    settings.allow_registration = False
    assert (await register(client)).status_code == 403


async def test_wrong_password_and_unknown_user_look_the_same(client: httpx.AsyncClient) -> None:
    unknown = await log_in(client)
    await register(client)
    wrong = await log_in(client, "password124")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no access token"),
        ("Bearer", "malformed"),
        ("Basic dTpw", "malformed"),
        ("Bearer nonsense", "not valid here"),
        ("Bearer inf_unknown", "no such API token"),
    ],
)
async def test_what_a_wrong_header_is_told(
    client: httpx.AsyncClient, header: str | None, message: str
) -> None:
    refused = await client.get(
        "/v1/account", headers={"Authorization": header} if header is not None else {}
    )
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert message in refused.json()["detail"]


async def test_an_access_token_ends_though_it_is_cached(
    client: httpx.AsyncClient, auth: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = auth("ada")
    assert (await client.get("/v1/account", headers=headers)).status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 901)
    monkeypatch.setattr("jose.jwt.timegm", lambda _: now + 901)
    refused = await client.get("/v1/account", headers=headers)
    assert refused.status_code == 401
    assert "expired" in refused.json()["detail"]


async def make_api_token(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    made = await client.post("/v1/auth/tokens", headers=headers, json={"name": "ci"})
    assert made.status_code == 201
    body: dict[str, str] = made.json()
    return body


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
async def test_an_api_token_works(client: httpx.AsyncClient, auth: Headers, scheme: str) -> None:
    token = (await make_api_token(client, auth("ada")))["token"]
    assert token.startswith("inf_")
    account = await client.get("/v1/account", headers={"Authorization": f"{scheme} {token}"})
    assert account.json()["username"] == "ada"


async def test_an_api_token_is_shown_once(client: httpx.AsyncClient, auth: Headers) -> None:
    made = await make_api_token(client, auth("ada"))
    listed = await client.get("/v1/auth/tokens", headers=auth("ada"))
    assert [token["id"] for token in listed.json()] == [made["id"]]
    assert made["token"] not in listed.text


async def test_a_revoked_api_token_stops_at_once(client: httpx.AsyncClient, auth: Headers) -> None:
    made = await make_api_token(client, auth("ada"))
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert (await client.get("/v1/account", headers=headers)).status_code == 200
    url = f"/v1/auth/tokens/{made['id']}"
    assert (await client.delete(url, headers=auth("ada"))).status_code == 204
    refused = await client.get("/v1/account", headers=headers)
    assert refused.status_code == 401
    assert "revoked" in refused.json()["detail"]
    assert (await client.delete(url, headers=auth("ada"))).status_code == 404


async def test_another_users_api_token_is_not_there(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    made = await make_api_token(client, auth("ada"))
    url = f"/v1/auth/tokens/{made['id']}"
    assert (await client.delete(url, headers=auth("bob"))).status_code == 404
    assert (await client.get("/v1/auth/tokens", headers=auth("bob"))).json() == []


async def test_the_webhook_secret_is_a_standard_one(client: httpx.AsyncClient) -> None:
    await register(client)
    token = (await log_in(client)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    key = (await client.get("/v1/webhooks/default/secret", headers=headers)).json()["key"]
    assert key.startswith("whsec_")
