"""Tokens end within two seconds on every gateway, however they were ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg2
import pytest

from inference_gateway.api.app import create_app, front
from inference_gateway.auth import authenticator, standing
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]
WITHIN_SECONDS = 2.0


@pytest.fixture
def sql(settings: GatewaySettings) -> Any:
    connection = psycopg2.connect(settings.database_url)
    connection.autocommit = True
    yield connection.cursor().execute
    connection.close()


@pytest.fixture
async def other(
    settings: GatewaySettings, client: httpx.AsyncClient
) -> AsyncIterator[httpx.AsyncClient]:
    """A second gateway of the same servers."""
    app = create_app(settings)
    transport = httpx.ASGITransport(front(app))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://other") as other,
    ):
        yield other


async def _until(answers: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until a condition holds."""
    began = time.monotonic()
    async with asyncio.timeout(20):
        while not await answers():  # noqa: ASYNC110 - a gateway sets no asyncio.Event
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _says(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> float:
    """Seconds until the token is answered so."""

    async def answers() -> bool:
        return (await client.get("/v1/account", headers=headers)).status_code == status

    return await _until(answers)


async def _api_token(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    made = (await client.post("/v1/auth/tokens", headers=headers, json={"name": "ci"})).json()
    return {"Authorization": f"Bearer {made['token']}", "id": made["id"]}


ENDS = [
    "DELETE FROM users WHERE username = 'ada'",
    "UPDATE users SET deleted_at = now() WHERE username = 'ada'",
    "UPDATE users SET disabled_at = now() WHERE username = 'ada'",
]


@pytest.mark.parametrize("statement", ENDS)
async def test_of_an_account_that_is_gone_or_disabled(
    client: httpx.AsyncClient, other: httpx.AsyncClient, auth: Headers, sql: Any, statement: str
) -> None:
    access, bob = auth("ada"), auth("bob")
    api = await _api_token(client, access)
    for gateway in (client, other):
        for headers in (access, api):
            assert (await gateway.get("/v1/account", headers=headers)).status_code == 200
    sql(statement)
    for gateway in (client, other):
        for headers in (access, api):
            assert await _says(gateway, headers, 401) < WITHIN_SECONDS
    assert (await other.get("/v1/account", headers=bob)).status_code == 200


async def test_of_an_api_token_that_another_gateway_revoked(
    client: httpx.AsyncClient, other: httpx.AsyncClient, auth: Headers
) -> None:
    kept, revoked = [await _api_token(client, auth("ada")) for _ in range(2)]
    for headers in (kept, revoked):
        assert (await other.get("/v1/account", headers=headers)).status_code == 200
    await client.delete(f"/v1/auth/tokens/{revoked['id']}", headers=auth("ada"))
    assert await _says(other, revoked, 401) < WITHIN_SECONDS
    assert (await other.get("/v1/account", headers=kept)).status_code == 200


async def test_the_rights_of_an_administrator_who_is_none_any_more(
    client: httpx.AsyncClient, other: httpx.AsyncClient, auth: Headers, sql: Any
) -> None:
    headers = auth("boss", admin=True)
    code = {
        "name": "code",
        "model_type": "custom",
        "model_path": "/code",
        "class_name": "a:B",
    }
    assert (await other.post("/v1/models", headers=headers, json=code)).status_code == 201
    sql("UPDATE users SET is_admin = false WHERE username = 'boss'")

    async def is_refused() -> bool:
        return (await other.get("/v1/users", headers=headers)).status_code == 403

    assert await _until(is_refused) < WITHIN_SECONDS
    more = await other.post("/v1/models", headers=headers, json={**code, "name": "more"})
    assert more.status_code == 403
    assert (await other.get("/v1/account", headers=headers)).status_code == 200


async def test_a_wait_ends_with_the_account(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any], sql: Any
) -> None:
    make_model("bob", "public", visibility="public")
    headers = auth("ada") | {"Prefer": "wait=30"}
    body = {"version": "bob/public", "input": {"prompt": "x"}}
    call = asyncio.create_task(client.post("/v1/predictions", json=body, headers=headers))

    async def is_there() -> bool:
        listed = await client.get("/v1/predictions", headers=auth("ada"))
        return bool(listed.json()["results"])

    await _until(is_there)
    sql("UPDATE users SET disabled_at = now() WHERE username = 'ada'")
    async with asyncio.timeout(WITHIN_SECONDS):
        assert (await call).status_code == 401


@pytest.mark.parametrize("revokes", [True, False])
async def test_a_stream_ends_with_its_token(
    live_url: str, auth: Headers, make_model: Callable[..., Any], sql: Any, revokes: bool
) -> None:
    make_model("bob", "public", visibility="public")
    async with httpx.AsyncClient(base_url=live_url) as client:
        body = {"version": "bob/public", "input": {"prompt": "x"}}
        made = (await client.post("/v1/predictions", json=body, headers=auth("ada"))).json()
        api = await _api_token(client, auth("ada"))
        async with client.stream("GET", made["urls"]["stream"], headers=api) as stream:
            assert stream.status_code == 200
            if revokes:
                sql("UPDATE api_tokens SET revoked_at = now() WHERE id = %s", (api["id"],))
            else:
                sql(ENDS[1])
            async with asyncio.timeout(WITHIN_SECONDS):
                text = (await stream.aread()).decode()
    assert "event: done" not in text


async def test_requests_cost_no_query(
    client: httpx.AsyncClient, app: Any, auth: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = auth("ada")
    await client.get("/v1/account", headers=headers)
    monkeypatch.setattr(app.state.services.authenticator, "_engine", None)
    for _ in range(5):
        assert (await client.get("/v1/account", headers=headers)).status_code == 200


async def test_without_postgresql_tokens_hold_for_a_while_only(
    client: httpx.AsyncClient, app: Any, auth: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = auth("ada")
    await client.get("/v1/account", headers=headers)

    def away(*_: object) -> None:
        raise psycopg2.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(standing, "read", away)
        await asyncio.sleep(2 * authenticator.CHECK_SECONDS)
        assert (await client.get("/v1/account", headers=headers)).status_code == 200
        patch.setattr(authenticator, "TRUSTED_SECONDS", 0.2)
        await _says(client, headers, 503)
    await _says(client, headers, 200)


async def _registered(client: httpx.AsyncClient) -> Callable[..., Any]:
    """Logs in as ada: the answer."""
    person = {"username": "ada", "email": "ada@example.com", "password": "password123"}
    await client.post("/v1/auth/register", json=person)

    async def log_in(password: str = "password123") -> httpx.Response:
        form = {"username": "ada", "password": password}
        return await client.post("/v1/auth/token", data=form)

    return log_in


async def _headers(answer: httpx.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_logging_out_ends_every_access_token(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    log_in = await _registered(client)
    first, second = await _headers(await log_in()), await _headers(await log_in())
    api = await _api_token(client, first)
    assert (await other.get("/v1/account", headers=second)).status_code == 200
    assert (await client.post("/v1/auth/logout", headers=first)).status_code == 204
    assert (await client.get("/v1/account", headers=first)).status_code == 401
    assert await _says(other, second, 401) < WITHIN_SECONDS
    assert (await other.get("/v1/account", headers=api)).status_code == 200
    assert (await client.get("/v1/account", headers=await _headers(await log_in()))).is_success


async def test_a_new_password_ends_what_the_old_one_gave(client: httpx.AsyncClient) -> None:
    log_in = await _registered(client)
    headers = await _headers(await log_in())
    url = "/v1/auth/password"
    wrong = {"current": "password124", "new": "another-password"}
    assert (await client.post(url, headers=headers, json=wrong)).status_code == 403
    body = {"current": "password123", "new": "another-password"}
    assert (await client.post(url, headers=headers, json=body)).status_code == 204
    assert (await client.get("/v1/account", headers=headers)).status_code == 401
    assert (await log_in()).status_code == 401
    assert (await log_in("another-password")).status_code == 200
