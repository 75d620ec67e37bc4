"""What a write says when its server goes away: that nothing was stored only if that is certain."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx
import psycopg2
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from inference_gateway.api.app import create_app, front
from inference_gateway.auth import accounts, administration
from inference_gateway.models.catalog import ModelCatalog
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[Any]]
PASSWORD = "a password of hers"


def document(owner: str) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "echo", "namespace": owner},
        "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
    }


class Write(NamedTuple):
    method: str
    path: str
    body: Any
    statement: bytes
    """What its transaction says."""
    done: str
    """Counts one if it was committed."""


WRITES = {
    "register": Write(
        "POST",
        "/v1/auth/register",
        {"username": "eve", "email": "eve@example.com", "password": PASSWORD},
        b"INSERT INTO users",
        "SELECT 1 FROM users WHERE username = 'eve'",
    ),
    "create an account": Write(
        "POST",
        "/v1/users",
        {"username": "eve", "email": "eve@example.com", "password": PASSWORD},
        b"INSERT INTO users",
        "SELECT 1 FROM users WHERE username = 'eve'",
    ),
    "promote": Write(
        "PATCH",
        "/v1/users/bob",
        {"is_admin": True},
        b"UPDATE users SET is_admin",
        "SELECT 1 FROM users WHERE username = 'bob' AND is_admin",
    ),
    "disable": Write(
        "PATCH",
        "/v1/users/bob",
        {"disabled": True},
        b"UPDATE users SET",
        "SELECT 1 FROM users WHERE username = 'bob' AND disabled_at IS NOT NULL",
    ),
    "delete an account": Write(
        "DELETE",
        "/v1/users/bob",
        None,
        b"UPDATE users SET email",
        "SELECT 1 FROM users WHERE username = 'bob' AND deleted_at IS NOT NULL",
    ),
    "log out": Write(
        "POST",
        "/v1/auth/logout",
        None,
        b"UPDATE users SET token_version",
        "SELECT 1 FROM users WHERE username = 'ada' AND token_version = 2",
    ),
    "make a token": Write(
        "POST",
        "/v1/auth/tokens",
        {"name": "ci"},
        b"INSERT INTO api_tokens",
        "SELECT 1 FROM api_tokens",
    ),
    "a model of another": Write(
        "POST",
        "/v1/models",
        document("bob"),
        b"pg_advisory_xact_lock",
        "SELECT 1 WHERE false",
    ),
}


@pytest.fixture
async def cut(settings: GatewaySettings, lossy_postgres: Any, auth: Auth) -> AsyncIterator[Any]:
    """A gateway whose way to PostgreSQL can be cut; it knows the token of ada, an administrator."""
    auth("bob")
    auth("grace", admin=True)
    url = lossy_postgres.url(settings.database_url)
    app = create_app(settings.model_copy(update={"database_url": url}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(front(app)),
            base_url="http://gateway",
            headers=auth("ada", admin=True),
            timeout=30,
        ) as client,
    ):
        assert (await client.get("/v1/account")).status_code == 200
        yield client


async def send(client: httpx.AsyncClient, write: Write) -> tuple[int, str]:
    reply = await client.request(write.method, write.path, json=write.body)
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status_code, reply.json()["detail"]


@pytest.mark.parametrize("name", WRITES)
async def test_a_commit_without_an_answer_is_not_known(
    cut: httpx.AsyncClient, lossy_postgres: Any, sql: Sql, name: str
) -> None:
    write = WRITES[name]
    lossy_postgres.loses_commit_of, lossy_postgres.is_away_after = write.statement, True
    status, detail = await send(cut, write)
    assert lossy_postgres.lost.is_set()
    assert status == 503
    assert "nothing was stored" not in detail
    assert "is not known" in detail
    assert len(sql(write.done)) == (0 if "model" in name else 1)


@pytest.mark.parametrize("name", WRITES)
async def test_what_was_never_committed_was_not_stored(
    cut: httpx.AsyncClient, lossy_postgres: Any, sql: Sql, name: str
) -> None:
    write = WRITES[name]
    lossy_postgres.loses, lossy_postgres.is_away_after = write.statement, True
    status, detail = await send(cut, write)
    assert (status, "nothing was stored" in detail) == (503, True)
    assert sql(write.done) == []


async def test_a_password_that_was_perhaps_changed(
    settings: GatewaySettings, client: httpx.AsyncClient, lossy_postgres: Any, sql: Sql
) -> None:
    body = {"username": "eve", "email": "eve@example.com", "password": PASSWORD}
    assert (await client.post("/v1/auth/register", json=body)).status_code == 201
    form = {"username": "eve", "password": PASSWORD}
    token = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = lossy_postgres.url(settings.database_url)
    app = create_app(settings.model_copy(update={"database_url": url}))
    transport = httpx.ASGITransport(front(app))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as doubtful,
    ):
        lossy_postgres.loses_commit_of = b"UPDATE users SET password_hash"
        change = {"current": PASSWORD, "new": "another password"}
        reply = await doubtful.post("/v1/auth/password", json=change, headers=headers)
        assert (reply.status_code, "is not known" in reply.json()["detail"]) == (503, True)
        form["password"] = "another password"
        assert (await doubtful.post("/v1/auth/token", data=form)).status_code == 200


async def test_a_revocation_without_an_answer_is_not_known(
    cut: httpx.AsyncClient, lossy_postgres: Any, sql: Sql
) -> None:
    made = (await cut.post("/v1/auth/tokens", json={"name": "ci"})).json()
    lossy_postgres.loses_commit_of = b"UPDATE api_tokens SET revoked_at"
    reply = await cut.delete(f"/v1/auth/tokens/{made['id']}")
    assert (reply.status_code, "is not known" in reply.json()["detail"]) == (503, True)
    assert len(sql("SELECT 1 FROM api_tokens WHERE revoked_at IS NOT NULL")) == 1


def _goes_away(*_: object) -> None:
    raise OperationalError("SELECT", {}, psycopg2.OperationalError("it went away"))


async def test_an_account_that_was_made_is_told_though_nothing_can_be_read(
    client: httpx.AsyncClient, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "get", _goes_away)
    body = {"username": "eve", "email": "eve@example.com", "password": PASSWORD, "is_admin": True}
    reply = await client.post("/v1/users", json=body, headers=auth("ada", admin=True))
    assert reply.status_code == 201
    shown = {key: reply.json()[key] for key in ("username", "email", "is_admin", "disabled")}
    assert shown == {key: body.get(key, False) for key in shown}


async def test_an_account_that_was_deleted_is_told_though_its_models_cannot_be_looked_for(
    client: httpx.AsyncClient, auth: Auth, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth("bob")
    headers = auth("ada", admin=True)
    monkeypatch.setattr(administration, "deleted_accounts", _goes_away)
    assert (await client.delete("/v1/users/bob", headers=headers)).status_code == 204
    assert len(sql("SELECT 1 FROM users WHERE deleted_at IS NOT NULL")) == 1


async def test_what_fails_after_a_commit_is_not_known(
    app: FastAPI, client: httpx.AsyncClient, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = accounts.create_api_token

    def then_goes_away(*given: Any) -> None:
        original(*given)
        _goes_away()

    monkeypatch.setattr(accounts, "create_api_token", then_goes_away)
    reply = await client.post("/v1/auth/tokens", json={}, headers=auth("ada"))
    assert (reply.status_code, "is not known" in reply.json()["detail"]) == (503, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_disk_that_does_not_say_whether_a_document_stays(
    client: httpx.AsyncClient, auth: Auth, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    headers, body = auth("ada"), document("ada")
    url = "/v1/models" if method == "POST" else "/v1/models/ada/echo"
    if method == "DELETE":
        assert (await client.put(url, json=body, headers=headers)).status_code == 201
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    reply = await client.request(method, url, json=body, headers=headers)
    assert (reply.status_code, "is not known" in reply.json()["detail"]) == (503, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_fails_after_a_document_was_written_is_not_known(
    client: httpx.AsyncClient, auth: Auth, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    headers, body = auth("ada"), document("ada")
    url = "/v1/models" if method == "POST" else "/v1/models/ada/echo"
    if method != "POST":
        assert (await client.put(url, json=body, headers=headers)).status_code == 201
    monkeypatch.setattr(ModelCatalog, "refresh", _goes_away)
    reply = await client.request(method, url, json=body, headers=headers)
    assert (reply.status_code, "is not known" in reply.json()["detail"]) == (503, True)
