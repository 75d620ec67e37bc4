"""What belongs to whom: accounts own by their id, and a name registered again inherits nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference_contract import layout
from inference_gateway.auth import accounts
from inference_gateway.models.store import StoreUnavailable

PERSON = {"username": "ada", "email": "ada@example.com", "password": "password123"}


async def register(client: httpx.AsyncClient) -> dict[str, str]:
    """Headers of the account, which is made."""
    assert (await client.post("/v1/auth/register", json=PERSON)).status_code == 201
    return await log_in(client)


async def log_in(client: httpx.AsyncClient) -> dict[str, str]:
    form = {key: PERSON[key] for key in ("username", "password")}
    token = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


async def test_a_name_registered_again_inherits_no_predictions(
    client: httpx.AsyncClient, sql: Any, make_model: Callable[..., Any]
) -> None:
    make_model("bob", "public", visibility="public")
    headers = await register(client)
    body = {"version": "bob/public", "input": {"prompt": "secret"}}
    keyed = {"Idempotency-Key": "key"}
    first = (await client.post("/v1/predictions", json=body, headers=headers | keyed)).json()
    sql("DELETE FROM users WHERE username = 'ada'")

    headers = await register(client)
    assert (await client.get("/v1/predictions", headers=headers)).json()["results"] == []
    url = f"/v1/predictions/{first['id']}"
    assert (await client.get(url, headers=headers)).status_code == 404
    assert (await client.get(f"{url}/stream", headers=headers)).status_code == 404
    assert (await client.post(f"{url}/cancel", headers=headers)).status_code == 404
    again = await client.post("/v1/predictions", json=body, headers=headers | keyed)
    assert again.json()["id"] != first["id"]


MODEL = {"name": "own", "model_type": "text-generation", "model_path": "gpt2"}


async def test_models_of_an_account_that_sql_deleted_are_nobodys(
    client: httpx.AsyncClient, app: FastAPI, sql: Any, auth: Callable[..., Any], home: Path
) -> None:
    """Also for whoever is given the name by an administrator, and what is written later."""
    boss = auth("boss", admin=True)
    headers = await register(client)
    assert (await client.post("/v1/models", json=MODEL, headers=headers)).status_code == 201
    sql("DELETE FROM users WHERE username = 'ada'")
    refused = await client.post("/v1/auth/register", json=PERSON)
    assert refused.status_code == 409
    assert "has models already" in refused.json()["detail"]
    assert sql("SELECT id FROM users WHERE username = 'ada'") == []

    assert (await client.post("/v1/users", json=PERSON, headers=boss)).status_code == 201
    headers = await log_in(client)
    url = "/v1/models/ada/own"
    document = (layout.model_file(home, "ada", "own")).read_text()
    layout.model_file(home, "ada", "later").write_text(document.replace("own", "later"))
    app.state.services.catalog.refresh()
    assert (await client.get("/v1/models", headers=headers)).json()["results"] == []
    assert (await client.get(url, headers=headers)).status_code == 404
    assert (await client.delete(url, headers=headers)).status_code == 404
    body = {"version": "ada/own", "input": {"prompt": "x"}}
    assert (await client.post("/v1/predictions", json=body, headers=headers)).status_code == 404
    for name in ("own", "new"):
        answer = await client.post("/v1/models", json=MODEL | {"name": name}, headers=headers)
        assert answer.status_code == 409
        assert "belongs to another account" in answer.json()["detail"]

    layout.owner_file(home, "ada").unlink()
    answer = await client.post("/v1/models", json=MODEL | {"name": "new"}, headers=headers)
    assert answer.status_code == 201
    assert (await client.get(url, headers=headers)).status_code == 200


async def test_a_name_that_had_models_stays_with_whoever_had_it(
    client: httpx.AsyncClient, sql: Any
) -> None:
    headers = await register(client)
    await client.post("/v1/models", json=MODEL, headers=headers)
    assert (await client.delete("/v1/models/ada/own", headers=headers)).status_code == 204
    sql("DELETE FROM users WHERE username = 'ada'")
    assert (await client.post("/v1/auth/register", json=PERSON)).status_code == 409


async def test_no_name_is_given_while_nobody_can_say_whether_it_has_models(
    client: httpx.AsyncClient, app: FastAPI, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(owner: str) -> bool:
        raise StoreUnavailable("Kubernetes does not answer: try again")

    monkeypatch.setattr(app.state.services.catalog.store, "has_place", away)
    assert (await client.post("/v1/auth/register", json=PERSON)).status_code == 503
    assert sql("SELECT id FROM users") == []


async def test_who_writes_models_for_a_name_and_who_registers_it_take_turns(
    client: httpx.AsyncClient,
    app: FastAPI,
    sql: Any,
    make_model: Callable[..., Any],
    wait_until: Callable[..., Any],
) -> None:
    engine = app.state.services.engine
    held, written = threading.Event(), threading.Event()

    def write() -> None:
        with accounts.name_held(engine, "ada") as owner_id:
            assert owner_id is None
            held.set()
            assert written.wait(10)
            make_model("ada", "echo")

    writing = asyncio.create_task(asyncio.to_thread(write))
    assert await asyncio.to_thread(held.wait, 10)
    registering = asyncio.create_task(client.post("/v1/auth/register", json=PERSON))
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    await asyncio.to_thread(wait_until, lambda: sql(waiting))
    written.set()
    await writing
    assert (await registering).status_code == 409


async def test_what_an_account_that_sql_deleted_left_open_is_canceled(
    client: httpx.AsyncClient, app: FastAPI, sql: Any, auth: Callable[..., Any], make_model: Any
) -> None:
    make_model("bob", "public", visibility="public")
    body = {"version": "bob/public", "input": {"prompt": "x"}}
    for name in ("ada", "bob", "cid"):
        for _ in range(2):
            headers = auth(name)
            assert (await client.post("/v1/predictions", json=body, headers=headers)).is_success
    sql("DELETE FROM users WHERE username = 'bob'")
    await asyncio.to_thread(app.state.services.deleted_accounts.step)
    rows = sql("SELECT owner = md5('bob')::uuid, cancel_requested_at IS NOT NULL FROM predictions")
    assert sorted(rows) == [(False, False)] * 4 + [(True, True)] * 2
