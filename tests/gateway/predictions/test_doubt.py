"""What a caller hears when PostgreSQL, or the gateway, goes away in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from inference_gateway.api.app import create_app, front
from inference_gateway.lifecycle import cancel as ending
from inference_gateway.predictions import repository, service
from inference_gateway.predictions.states import States
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]
Eventually = Callable[..., Any]
BODY = {"model_id": "ada/echo", "input": {"text": "hi"}}
PROBLEM = "application/problem+json"


@asynccontextmanager
async def _gateway(settings: GatewaySettings, url: str) -> AsyncIterator[tuple[FastAPI, Any]]:
    app = create_app(settings.model_copy(update={"database_url": url}))
    transport = httpx.ASGITransport(front(app))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=30) as client,
    ):
        yield app, client


def _doubt_for(app: FastAPI, seconds: float) -> None:
    for store in app.state.services.predictions.storing.connections:
        store.in_doubt_seconds = seconds


@pytest.fixture
def name(database_url: str) -> str:
    return database_url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
async def doubtful(
    settings: GatewaySettings, lossy_postgres: Any, auth: Auth, echo: str
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A gateway whose next commit is carried out, and PostgreSQL away before it says so."""
    url = lossy_postgres.url(settings.database_url)
    async with _gateway(settings, url) as (app, client):
        _doubt_for(app, 0.3)
        await client.get("/v1/predictions", headers=auth("ada"))  # Authenticated from now on.
        lossy_postgres.loses, lossy_postgres.is_away_after = b"EXECUTE create", True
        yield app, client


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5"])
async def test_without_a_key_the_answer_says_that_it_may_be_stored_and_under_which_id(
    doubtful: Any, auth: Auth, sql: Sql, prefer: str
) -> None:
    _, client = doubtful
    headers = {**auth("ada"), "Prefer": prefer}
    reply = await client.post("/v1/predictions", json=BODY, headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (503, PROBLEM)
    assert "nothing was stored" not in reply.text
    (row,) = sql("SELECT id FROM predictions")
    assert reply.json()["prediction_id"] == row["id"]


async def test_the_same_key_finds_it_later(
    doubtful: Any, auth: Auth, sql: Sql, lossy_postgres: Any
) -> None:
    _, client = doubtful
    headers = {**auth("ada"), "Idempotency-Key": "k"}
    reply = await client.post("/v1/predictions", json=BODY, headers=headers)
    assert reply.status_code == 503
    assert "same Idempotency-Key" in reply.json()["detail"]
    lossy_postgres.is_up = True
    again = await client.post("/v1/predictions", json=BODY, headers=headers)
    assert again.status_code == 201
    # Whatever each writer does next, it takes nothing back.
    for _ in range(4):
        await client.post("/v1/predictions", json=BODY, headers=auth("ada"))
    (row,) = sql("SELECT id FROM predictions WHERE idempotency_key = 'k'")
    assert row["id"] == again.json()["id"]
    assert (await client.get(again.json()["urls"]["get"], headers=headers)).status_code == 200


async def test_another_gateway_gives_it_out_while_the_first_is_in_doubt(
    doubtful: Any, settings: GatewaySettings, auth: Auth, sql: Sql, lossy_postgres: Any
) -> None:
    app, client = doubtful
    _doubt_for(app, 5)
    headers = {**auth("ada"), "Idempotency-Key": "k"}
    first = asyncio.create_task(client.post("/v1/predictions", json=BODY, headers=headers))
    await asyncio.to_thread(lossy_postgres.lost.wait, 10)
    async with _gateway(settings, settings.database_url) as (_, other):
        given = await other.post("/v1/predictions", json=BODY, headers=headers)
        assert given.status_code == 201
        lossy_postgres.is_up = True
        assert (await first).json()["id"] == given.json()["id"]
        assert (await other.get(given.json()["urls"]["get"], headers=headers)).status_code == 200


async def test_a_gateway_that_is_restarted_in_doubt_takes_nothing_back(
    doubtful: Any, settings: GatewaySettings, auth: Auth, sql: Sql, lossy_postgres: Any
) -> None:
    _, client = doubtful
    headers = {**auth("ada"), "Idempotency-Key": "k"}
    assert (await client.post("/v1/predictions", json=BODY, headers=headers)).status_code == 503
    async with _gateway(settings, settings.database_url) as (_, second):
        found = await second.post("/v1/predictions", json=BODY, headers=headers)
        assert found.status_code == 201
        assert sql("SELECT id FROM predictions") == [{"id": found.json()["id"]}]


async def test_a_cancel_whose_commit_is_lost_does_not_say_that_nothing_was_stored(
    settings: GatewaySettings, auth: Auth, echo: str, lossy_postgres: Any, sql: Sql
) -> None:
    async with _gateway(settings, lossy_postgres.url(settings.database_url)) as (_, client):
        made = (await client.post("/v1/predictions", json=BODY, headers=auth("ada"))).json()
        lossy_postgres.loses = b"COMMIT"
        reply = await client.post(made["urls"]["cancel"], headers=auth("ada"))
        assert (reply.status_code, reply.headers["content-type"]) == (503, PROBLEM)
        assert "nothing was stored" not in reply.json()["detail"]


def _goes_away(*_: object) -> None:
    raise OperationalError("SELECT", {}, psycopg2.OperationalError("it went away"))


async def test_a_wait_whose_row_cannot_be_read_says_that_it_is_accepted(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    sql: Sql,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = {**auth("ada"), "Prefer": "wait=20"}
    asked = asyncio.create_task(client.post("/v1/predictions", json=BODY, headers=headers))
    (row,) = await eventually(lambda: sql("SELECT id FROM predictions"))
    monkeypatch.setattr(repository, "get_small", _goes_away)
    sql("UPDATE predictions SET status = 'succeeded', completed_at = now()")
    reply = await asked  # The hub looks at the row, and then the whole of it is read.
    assert (reply.status_code, reply.json()["id"]) == (202, str(row["id"]))


async def test_a_wait_under_a_known_key_says_that_it_is_accepted(
    client: httpx.AsyncClient, auth: Auth, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {**auth("ada"), "Idempotency-Key": "k"}
    made = (await client.post("/v1/predictions", json=BODY, headers=headers)).json()
    monkeypatch.setattr(States, "find", _goes_away)
    headers["Prefer"] = "wait=5"
    reply = await client.post("/v1/predictions", json=BODY, headers=headers)
    assert (reply.status_code, reply.json()["id"]) == (202, made["id"])


async def test_a_cancel_that_is_stored_is_not_refused(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await client.post("/v1/predictions", json=BODY, headers=auth("ada"))).json()
    monkeypatch.setattr(ending, "end", _goes_away)
    reply = await client.post(made["urls"]["cancel"], headers=auth("ada"))
    assert (reply.status_code, reply.json()["status"]) == (200, "starting")
    assert len(sql("SELECT id FROM predictions WHERE cancel_requested_at IS NOT NULL")) == 1


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5"])
async def test_a_database_that_takes_no_changes(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql, name: str, prefer: str
) -> None:
    headers = {**auth("ada"), "Prefer": prefer}
    made = (await client.post("/v1/predictions", json=BODY, headers=auth("ada"))).json()
    sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = %s AND pid <> pg_backend_pid()",
        name,
    )
    for _ in range(3):
        for path in ("/v1/predictions", made["urls"]["cancel"]):
            reply = await client.post(path, json=BODY, headers=headers)
            assert (reply.status_code, reply.headers["content-type"]) == (503, PROBLEM)
            assert "retry-after" in reply.headers
    sql("SET default_transaction_read_only = off")
    sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    cancel = await client.post(made["urls"]["cancel"], headers=auth("ada"))
    assert cancel.json()["status"] == "canceled"
    assert (await client.post("/v1/predictions", json=BODY, headers=auth("ada"))).status_code == 201


@pytest.mark.parametrize("prefer", ["respond-async", "wait=20"])
async def test_a_gateway_that_stops_while_creates_wait_says_that_it_does_not_know(
    client: httpx.AsyncClient,
    app: FastAPI,
    auth: Auth,
    echo: str,
    sql: Sql,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    prefer: str,
) -> None:
    monkeypatch.setattr(service, "_LAST_CALL_SECONDS", 0.2)
    headers = {**auth("ada"), "Prefer": prefer}
    await client.post("/v1/predictions", json=BODY, headers=auth("ada"))
    sql("BEGIN")
    sql("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE")
    try:
        calls = [
            asyncio.create_task(client.post("/v1/predictions", json=BODY, headers=headers))
            for _ in range(4)
        ]
        await eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        app.state.services.predictions.release()
        replies = await asyncio.gather(*calls)
    finally:
        sql("ROLLBACK")
    for reply in replies:
        assert (reply.status_code, reply.headers["content-type"]) == (503, PROBLEM)
        assert "did not say" in reply.json()["detail"]


def test_what_is_cut_off_by_a_stop_is_a_problem_and_no_plain_text(
    live_url: str, auth: Auth, echo: str, sql: Sql, wait_until: Any, live_server: uvicorn.Server
) -> None:
    headers = auth("ada")
    httpx.post(f"{live_url}/v1/predictions", json=BODY, headers=headers)
    sql("BEGIN")
    sql("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE")
    replies: list[httpx.Response] = []

    def call(method: str, path: str) -> None:
        url = f"{live_url}{path}"
        body = BODY if method == "POST" else None
        replies.append(httpx.request(method, url, json=body, headers=headers, timeout=20))

    calls = [("POST", "/v1/predictions"), ("GET", "/v1/predictions")]
    threads = [threading.Thread(target=call, args=pair) for pair in calls]
    try:
        for thread in threads:
            thread.start()
        # Others wait for the table too: what counts is that the server has both.
        wait_until(lambda: len(live_server.server_state.tasks) == len(calls))
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        wait_until(lambda: len(sql(waiting)) >= len(calls))
        live_server.should_exit = True
        for thread in threads:
            thread.join(20)
    finally:
        sql("ROLLBACK")
    assert [reply.status_code for reply in replies] == [503, 503]
    assert {reply.headers["content-type"] for reply in replies} == {PROBLEM}
