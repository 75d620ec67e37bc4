"""`PUT /v1/predictions/{id}`: the caller chooses the id, and may send the same again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]
BODY = {"model": "ada/echo", "input": {"text": "hi"}}


async def _put(
    client: httpx.AsyncClient, headers: dict[str, str], id: object, body: Any = BODY
) -> httpx.Response:
    return await client.put(f"/v1/predictions/{id}", json=body, headers=headers)


async def test_the_prediction_has_the_callers_id(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    chosen = uuid4()
    made = await _put(client, auth("ada"), chosen)
    assert made.status_code == 201
    body = made.json()
    assert body["id"] == str(chosen)
    assert made.headers["location"] == body["urls"]["get"]
    assert body["urls"]["get"].endswith(f"/v1/predictions/{chosen}")
    assert (await client.get(f"/v1/predictions/{chosen}", headers=auth("ada"))).json() == body
    page = (await client.get("/v1/predictions", headers=auth("ada"))).json()
    assert page["results"] == [body]
    canceled = await client.post(f"/v1/predictions/{chosen}/cancel", headers=auth("ada"))
    assert (canceled.json()["id"], canceled.json()["status"]) == (str(chosen), "canceled")
    stream = await client.get(f"/v1/predictions/{chosen}/stream", headers=auth("ada"))
    assert "event: done" in stream.text


async def test_the_same_again_is_the_same_prediction(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql
) -> None:
    chosen = uuid4()
    made = await asyncio.gather(*(_put(client, auth("ada"), chosen) for _ in range(5)))
    made.append(await _put(client, auth("ada"), str(chosen).upper()))
    assert {reply.json()["id"] for reply in made} == {str(chosen)}
    assert len(sql("SELECT id FROM predictions")) == 1


async def test_the_same_id_with_another_body_is_refused(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    chosen = uuid4()
    await _put(client, auth("ada"), chosen)
    reply = await _put(client, auth("ada"), chosen, {**BODY, "input": {"text": "ho"}})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "prediction_id"


async def test_an_id_that_the_server_chose_is_taken(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    made = (await client.post("/v1/predictions", json=BODY, headers=auth("ada"))).json()
    assert (await _put(client, auth("ada"), made["id"])).status_code == 422


async def test_nobody_learns_of_others_ids(
    client: httpx.AsyncClient, auth: Auth, make_model: Any
) -> None:
    make_model(
        "ada",
        "echo",
        visibility="public",
        type="custom",
        source={"path": "/m"},
        engine={"class_name": "echo:Echo"},
        input_schema={"text": {"type": "string"}},
    )
    posted = await client.post("/v1/predictions", json=BODY, headers=auth("ada"))
    chosen = uuid4()
    await _put(client, auth("ada"), chosen)
    for taken in (chosen, posted.json()["id"]):
        theirs = await client.get(f"/v1/predictions/{taken}", headers=auth("bob"))
        assert theirs.status_code == 404
        made = await _put(client, auth("bob"), taken, {**BODY, "input": {"text": "bob's"}})
        assert (made.status_code, made.json()["id"]) == (201, str(taken))
        mine = await client.get(f"/v1/predictions/{taken}", headers=auth("ada"))
        assert mine.json()["input"] == {"text": "hi"}


@pytest.mark.parametrize("id", ["x", "multipart1", "%C3%A4", "0" * 31, "1" * 400])
async def test_the_id_must_be_a_uuid(
    client: httpx.AsyncClient, auth: Auth, echo: str, id: str
) -> None:
    reply = await _put(client, auth("ada"), id)
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"field": "prediction_id", "message": "choose a UUID"}]


async def test_a_key_of_a_header_is_no_chosen_id(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    made = await client.post("/v1/predictions", json=BODY, headers=auth("ada") | key)
    found = await client.get(f"/v1/predictions/{key['Idempotency-Key']}", headers=auth("ada"))
    assert (made.status_code, found.status_code) == (201, 404)
