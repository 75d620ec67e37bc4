"""Accounts under an administrator's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import httpx
import psycopg2
import pytest
from fastapi import FastAPI

from inference_contract import layout
from inference_gateway.auth import administration
from inference_gateway.cleanup.deleted_accounts import DeletedAccounts
from inference_gateway.errors import Conflict

Headers = Callable[..., dict[str, str]]
PERSON = {"username": "ada", "email": "ada@example.com", "password": "password123"}


@pytest.fixture
def boss(auth: Headers) -> dict[str, str]:
    return auth("boss", admin=True)


async def _log_in(client: httpx.AsyncClient) -> httpx.Response:
    form = {"username": "ada", "password": "password123"}
    return await client.post("/v1/auth/token", data=form)


async def test_accounts_are_listed_page_by_page(
    client: httpx.AsyncClient, auth: Headers, boss: dict[str, str]
) -> None:
    for name in ("ada", "bob", "cid"):
        auth(name)
    page = (await client.get("/v1/users?limit=2", headers=boss)).json()
    assert [user["username"] for user in page["results"]] == ["ada", "bob"]
    page = (await client.get(page["next"], headers=boss)).json()
    assert [user["username"] for user in page["results"]] == ["boss", "cid"]
    assert page["next"] is None
    user = (await client.get("/v1/users/boss", headers=boss)).json()
    assert (user["is_admin"], user["disabled"]) == (True, False)
    assert not {"password_hash", "webhook_secret"} & user.keys()


async def test_what_is_no_change_is_refused(
    client: httpx.AsyncClient, auth: Headers, boss: dict[str, str]
) -> None:
    auth("ada")
    for change in ({"username": "x"}, {"is_admin": "yes"}, {"disabled": 1}):
        refused = await client.patch("/v1/users/ada", headers=boss, json=change)
        assert refused.status_code == 422
    assert (await client.patch("/v1/users/eve", headers=boss, json={})).status_code == 404
    assert (await client.delete("/v1/users/eve", headers=boss)).status_code == 404


async def test_a_disabled_account_is_shut_out_until_it_is_enabled(
    client: httpx.AsyncClient, boss: dict[str, str]
) -> None:
    await client.post("/v1/auth/register", json=PERSON)
    access = {"Authorization": f"Bearer {(await _log_in(client)).json()['access_token']}"}
    made = (await client.post("/v1/auth/tokens", headers=access, json={})).json()
    api = {"Authorization": f"Bearer {made['token']}"}
    disabled = await client.patch("/v1/users/ada", headers=boss, json={"disabled": True})
    assert disabled.json()["disabled"] is True
    for headers in (access, api):
        assert (await client.get("/v1/account", headers=headers)).status_code == 401
    assert (await _log_in(client)).status_code == 403
    await client.patch("/v1/users/ada", headers=boss, json={"disabled": False})
    assert (await client.get("/v1/account", headers=access)).status_code == 401
    assert (await client.get("/v1/account", headers=api)).status_code == 200
    assert (await _log_in(client)).status_code == 200


async def test_an_administrator_is_made_and_unmade(
    client: httpx.AsyncClient, auth: Headers, boss: dict[str, str]
) -> None:
    ada = auth("ada")
    assert (await client.get("/v1/users", headers=ada)).status_code == 403
    for is_admin, status in ((True, 200), (False, 403)):
        await client.patch("/v1/users/ada", headers=boss, json={"is_admin": is_admin})
        assert (await client.get("/v1/users", headers=ada)).status_code == status


async def test_the_last_administrator_stays(
    client: httpx.AsyncClient, auth: Headers, boss: dict[str, str]
) -> None:
    url = "/v1/users/boss"
    gone = auth("gone", admin=True)
    assert (await client.patch("/v1/users/gone", headers=gone, json={"disabled": True})).is_success
    for refused in (
        await client.delete(url, headers=boss),
        await client.patch(url, headers=boss, json={"disabled": True}),
        await client.patch(url, headers=boss, json={"is_admin": False}),
    ):
        assert refused.status_code == 409
        assert "last administrator" in refused.json()["detail"]


async def test_of_two_administrators_who_remove_each_other_one_stays(
    client: httpx.AsyncClient, auth: Headers, app: FastAPI, sql: Any
) -> None:
    auth("one", admin=True)
    auth("two", admin=True)
    engine = app.state.services.engine
    calls = [asyncio.to_thread(administration.remove, engine, name) for name in ("one", "two")]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Conflict) == 1
    assert len(sql("SELECT id FROM users WHERE is_admin")) == 1


@pytest.mark.parametrize(
    "end",
    [
        administration.remove,
        partial(administration.change, is_admin=False, disabled=None),
        partial(administration.change, is_admin=None, disabled=True),
    ],
)
async def test_while_another_administrator_goes_it_is_not_decided_who_is_the_last(
    client: httpx.AsyncClient,
    auth: Headers,
    app: FastAPI,
    sql: Any,
    database_url: str,
    wait_until: Any,
    end: Callable[..., Any],
) -> None:
    auth("one", admin=True)
    auth("two", admin=True)
    waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
    with closing(psycopg2.connect(database_url)) as another:
        another.cursor().execute("UPDATE users SET is_admin = false WHERE username = 'one'")
        call = asyncio.create_task(asyncio.to_thread(end, app.state.services.engine, "two"))
        await asyncio.to_thread(wait_until, lambda: call.done() or sql(waiting))
        another.commit()
    with pytest.raises(Conflict):
        await call


async def test_what_a_deletion_ends(
    client: httpx.AsyncClient,
    boss: dict[str, str],
    make_model: Callable[..., Any],
    home: Any,
    sql: Any,
) -> None:
    make_model("bob", "public", visibility="public")
    await client.post("/v1/auth/register", json=PERSON)
    headers = {"Authorization": f"Bearer {(await _log_in(client)).json()['access_token']}"}
    make_model("ada", "echo", visibility="public")
    for headers_of, model in ((headers, "bob/public"), (boss, "ada/echo")):
        body = {"version": model, "input": {"prompt": "x"}}
        assert (await client.post("/v1/predictions", json=body, headers=headers_of)).is_success
    assert (await client.delete("/v1/users/ada", headers=boss)).status_code == 204

    assert (await client.get("/v1/account", headers=headers)).status_code == 401
    assert (await _log_in(client)).status_code == 401
    assert not layout.model_file(home, "ada", "echo").exists()
    rows = sql("SELECT model, status, error_code, cancel_requested_at IS NULL FROM predictions")
    assert sorted(rows) == [
        ("ada/echo", "canceled", "model_deleted", True),
        ("bob/public", "starting", None, False),
    ]
    assert sql("SELECT id FROM api_tokens") == []
    (kept,) = sql("SELECT email, password_hash, webhook_secret FROM users WHERE username = 'ada'")
    assert kept[0].endswith("@deleted.invalid")
    assert kept[1:] == ("!", "")
    listed = (await client.get("/v1/users", headers=boss)).json()["results"]
    assert [user["username"] for user in listed] == ["boss"]
    # The name is nobody's any more; the address is free.
    assert (await client.post("/v1/auth/register", json=PERSON)).status_code == 409
    again = await client.post("/v1/auth/register", json=PERSON | {"username": "ada2"})
    assert again.status_code == 201


async def test_no_token_of_a_deleted_account_is_kept(
    client: httpx.AsyncClient, boss: dict[str, str], auth: Headers, sql: Any
) -> None:
    """Its name may be given an account again, by `restore`."""
    made = await client.post("/v1/auth/tokens", headers=auth("eve"), json={"name": "ci"})
    assert made.status_code == 201
    assert (await client.delete("/v1/users/eve", headers=boss)).status_code == 204
    assert sql("SELECT id FROM api_tokens") == []


async def test_what_comes_late_from_another_gateway_is_ended_too(
    client: httpx.AsyncClient, app: FastAPI, boss: dict[str, str], auth: Headers, sql: Any
) -> None:
    auth("ada")
    await client.delete("/v1/users/ada", headers=boss)
    sql(
        "INSERT INTO predictions (id, owner, model, version, token, input, deadline)"
        " VALUES (gen_random_uuid(), md5('ada')::uuid, 'bob/x', '1', 't', '{}', 'infinity')"
    )
    deleted_accounts: DeletedAccounts = app.state.services.deleted_accounts
    await asyncio.to_thread(deleted_accounts.step)
    assert sql("SELECT cancel_requested_at IS NULL FROM predictions") == [(False,)]
    assert sql("SELECT settled_at IS NULL FROM users WHERE username = 'ada'") == [(True,)]
    sql("UPDATE users SET deleted_at = now() - interval '2 minutes' WHERE username = 'ada'")
    await asyncio.to_thread(deleted_accounts.step)
    assert sql("SELECT settled_at IS NULL FROM users WHERE username = 'ada'") == [(False,)]


async def test_a_name_that_has_models_is_given_by_an_administrator_only(
    client: httpx.AsyncClient, make_model: Callable[..., Any], boss: dict[str, str]
) -> None:
    make_model("ada", "echo")
    refused = await client.post("/v1/auth/register", json=PERSON)
    assert refused.status_code == 409
    assert "has models already" in refused.json()["errors"][0]["message"]
    assert (await client.post("/v1/users", headers=boss, json=PERSON)).status_code == 201
    headers = {"Authorization": f"Bearer {(await _log_in(client)).json()['access_token']}"}
    assert (await client.get("/v1/models/ada/echo", headers=headers)).status_code == 200
