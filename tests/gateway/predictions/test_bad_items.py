"""Shared loops of the gateway, fed what nobody lets in: the others are served."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
import psycopg2
import pytest
import redis.asyncio
from fastapi import FastAPI

from inference_contract import queues
from inference_gateway.cleanup import deleted_models
from inference_gateway.errors import Invalid
from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.predictions.creating.batch_writer import BatchWriter, NewPrediction
from inference_gateway.predictions.creating.enqueuer import Enqueuer
from inference_gateway.predictions.creating.insert import InsertConnection
from inference_gateway.predictions.creating.queue_sizes import QueueSizes
from inference_gateway.predictions.pages import Pages, partial_output
from inference_gateway.predictions.streaming.tails import Tails
from inference_gateway.predictions.waiting.waiters import StreamWaiter
from inference_gateway.quotas.queued import Room
from inference_gateway.redis.bounded_reader import TooManyParts
from inference_gateway.redis.clients import asynchronous

Sql = Callable[..., list[dict[str, Any]]]
ID = "01a20adf-4edc-7989-89d1-14c94848be7c"
STREAM = queues.stream_key("ada_echo", ID)
_INSERT = (
    "INSERT INTO predictions (id, owner, model, version, token, input, deadline)"
    " VALUES (gen_random_uuid(), md5('ada')::uuid, %s, '1', 't', '{}', 'infinity')"
)

NO_ENTRIES = [
    *({}, {"x": "y"}, {"d": ""}, {"d": "nonsense"}, {"d": b"\xff"}, {"d": "[" * 5000}, {"d": "1"}),
    *({"d": "[]"}, {"d": "null"}, {"d": '{"type":[]}'}, {"d": '{"type":"output"}'}),
    {"d": '{"type":"output","output":' + "[" * 250 + "]" * 250 + "}"},
    {"d": '{"type":"output","output":"\\u0000"}'},
]


@pytest.fixture
async def client_(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=5)
    yield client
    await client.aclose()


def said(number: int) -> dict[Any, Any]:
    return {"d": orjson.dumps({"type": "output", "output": number})}


@pytest.mark.parametrize("fields", NO_ENTRIES)
async def test_an_entry_that_is_none_ends_the_output_so_far(
    client_: redis.asyncio.Redis, fields: dict[Any, Any]
) -> None:
    await client_.xadd(STREAM, said(1), id="1-1")
    await client_.xadd(STREAM, fields or {"": ""}, id="1-2")
    await client_.xadd(STREAM, said(3), id="1-3")
    row: Any = {"model": "ada/echo", "id": ID, "attempt": 1}
    is_output = "type" not in str(fields) or "output" in str(fields)
    found = await partial_output(Pages(client_), row, is_text=False)
    assert found == [1] if is_output else found in ([1], [1, 3])


async def test_an_output_so_far_that_no_output_may_be_is_not_shown(
    client_: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_gateway.lifecycle.streamed.MAX_BYTES", 1000)
    for number in range(100):
        await client_.xadd(STREAM, said(number), id=f"1-{number + 1}")
    row: Any = {"model": "ada/echo", "id": ID, "attempt": 1}
    assert await partial_output(Pages(client_), row, is_text=False) is None


@pytest.mark.parametrize("spoil", ["string", "gone", "last id", *range(len(NO_ENTRIES))])
async def test_a_stream_that_is_none_keeps_no_reader_of_another_waiting(
    client_: redis.asyncio.Redis, spoil: Any, eventually: Callable[..., Any]
) -> None:
    tails = Tails(client_)
    await tails.start()
    fine = StreamWaiter("bob_fine", ID)
    odd = StreamWaiter("ada_echo", ID)
    for watcher in (fine, odd):
        await tails.add(watcher)
        watcher.take()
    if spoil == "string":
        await client_.set(STREAM, "x")
    elif spoil == "last id":
        last = "18446744073709551615-18446744073709551615"
        await client_.xadd(STREAM, said(1), id=last)
    elif spoil != "gone":
        await client_.xadd(STREAM, NO_ENTRIES[spoil] or {"": ""}, id="1-1")
    for number in range(3):
        await client_.xadd(queues.stream_key("bob_fine", ID), said(number), id=f"1-{number + 1}")
        (entry,) = await eventually(fine.take)
        assert orjson.loads(entry.data)["output"] == number
    for watcher in (fine, odd):
        tails.leave(watcher)
    await tails.stop()


MANY_FIELDS: Any = dict.fromkeys(map(str, range(600_000)), "")


async def test_an_entry_of_millions_of_fields_keeps_no_reader_of_another_stream_waiting(
    redis_url: str, redis_client: redis.Redis, eventually: Callable[..., Any]
) -> None:
    async with asynchronous(redis_url) as client:
        tails = Tails(client)
        await tails.start()
        fine, odd = StreamWaiter("bob_fine", ID), StreamWaiter("ada_echo", ID)
        for watcher in (fine, odd):
            await tails.add(watcher)
            watcher.take()
        redis_client.xadd(STREAM, MANY_FIELDS, id="1-1")
        for number in range(3):
            name = queues.stream_key("bob_fine", ID)
            redis_client.xadd(name, said(number), id=f"1-{number + 1}")
            (entry,) = await eventually(fine.take)
            assert orjson.loads(entry.data)["output"] == number
        assert not odd.take()
        await tails.stop()


async def test_a_stream_with_an_entry_of_millions_of_fields_is_removed(
    redis_url: str, redis_client: redis.Redis
) -> None:
    redis_client.xadd(STREAM, MANY_FIELDS, id="1-1")
    async with asynchronous(redis_url) as client:
        with pytest.raises(TooManyParts):
            await anext(Pages(client).entries(STREAM))
        assert [entry async for entry in Pages(client).entries(STREAM)] == []


async def test_a_row_that_cannot_be_encoded_keeps_no_other_from_its_queue(
    redis_client: Any, enqueuer: Enqueuer
) -> None:
    def row(id: str, content: Any) -> Any:
        rest = {"crashes": 0, "webhook_events": None, "held": False, "input_bytes": 9}
        return {"id": id, "attempt": 1, "token": "t", "input": content, **rest}

    await enqueuer.enqueue("ada/echo", [row("a", {}), row("odd", {"n": {1, 2}}), row("b", {})])
    waiting = redis_client.lrange(queues.queue_key("ada_echo"), 0, -1)
    assert [queues.parse_job_id(name.decode())[1] for name in waiting] == ["a", "b"]


async def test_models_that_no_name_fits_keep_no_other_from_being_missed(
    client: httpx.AsyncClient, app: FastAPI, sql: Sql, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 0)
    odd = ["", "/", "x", "a/b/c", "../../x/y", "a/" + "x" * 5000, "\x01/\n", "é/ü", "gone/model"]
    for model in odd:
        sql(_INSERT, model)
    await asyncio.to_thread(app.state.services.deleted_models.step)
    ended = sql("SELECT model FROM predictions WHERE status = 'canceled'")
    assert "gone/model" in {row["model"] for row in ended}


async def test_a_model_that_cannot_be_looked_for_keeps_no_other_from_being_missed(
    client: httpx.AsyncClient, app: FastAPI, sql: Sql, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 0)
    store = app.state.services.catalog.store
    is_gone = store.is_gone

    def looked_for(model: str) -> bool:
        if model == "a/odd":
            raise TypeError("an answer that is none")
        return bool(is_gone(model))

    monkeypatch.setattr(store, "is_gone", looked_for)
    for model in ("a/odd", "b/gone"):
        sql(_INSERT, model)
    await asyncio.to_thread(app.state.services.deleted_models.step)
    states = {row["model"]: row["status"] for row in sql("SELECT model, status FROM predictions")}
    assert states == {"a/odd": "starting", "b/gone": "canceled"}


async def test_an_account_whose_model_stays_keeps_no_other_from_going(
    client: httpx.AsyncClient,
    app: FastAPI,
    sql: Sql,
    make_model: Any,
    user_token: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ada", "bob"):
        user_token(name)
        make_model(name, "m")
    services = app.state.services
    delete = services.catalog.delete

    def deleted(model: str) -> None:
        if model == "ada/m":
            raise TypeError("an answer that is none")
        delete(model)

    monkeypatch.setattr(services.catalog, "delete", deleted)
    sql("UPDATE users SET deleted_at = now()")
    await asyncio.to_thread(services.deleted_accounts.step)
    kept = [model for model in ("ada/m", "bob/m") if services.catalog.entry(model)]
    assert kept == ["ada/m"]


async def test_a_model_that_stays_keeps_no_other_of_its_account_from_going(
    client: httpx.AsyncClient,
    app: FastAPI,
    sql: Sql,
    make_model: Any,
    user_token: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user_token("ada")
    models = {make_model("ada", name).id for name in ("a", "b", "c")}
    services = app.state.services
    delete = services.catalog.delete
    asked: list[str] = []

    def deleted(model: str) -> None:
        asked.append(model)
        if model == asked[0]:
            raise TypeError("an answer that is none")
        delete(model)

    monkeypatch.setattr(services.catalog, "delete", deleted)
    sql("UPDATE users SET deleted_at = now()")
    await asyncio.to_thread(services.deleted_accounts.step)
    assert [model for model in models if services.catalog.entry(model)] == asked[:1]


async def test_a_model_that_cannot_be_served_hides_no_other(
    client: httpx.AsyncClient, app: FastAPI, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference_gateway.models import catalog
    from inference_gateway.models.inputs.checker import InputChecker

    def checked(parameters: Any, one_of: Any) -> Any:
        if "odd" in parameters:
            raise TypeError("no checker for this one")
        return InputChecker(parameters, one_of)

    monkeypatch.setattr(catalog, "InputChecker", checked)
    make_model("ada", "odd", visibility="public", input_schema={"odd": {"type": "string"}})
    make_model("ada", "fine", visibility="public")
    listed = await client.get("/v1/models")
    assert [model["name"] for model in listed.json()["results"]] == ["fine"]


async def test_a_row_that_cannot_be_encoded_keeps_no_other_from_being_stored(
    database_url: str, redis_client: Any, enqueuer: Enqueuer, sql: Sql
) -> None:
    loop = asyncio.get_running_loop()

    def new(content: Any) -> NewPrediction:
        row: Any = dict.fromkeys(
            ("webhook", "webhook_events", "base_url", "idempotency_key", "request_hash")
        )
        row |= {"id": IdSource().new()[0], "owner": ID, "model": "ada/echo", "version": "1"}
        known: Any = {"token": "t", "lives_seconds": 60, "created_at": None, "deadline": None}
        known |= {"input_bytes": 10, "held": False, "attempt": 1, "crashes": 0}
        row |= {**known, "input": content}
        return NewPrediction(row, 10, Future(loop=loop))

    batch = [new({}), new({"n": {1, 2}}), new({"n": 2**70}), new({"\ud800": 1}), new({})]
    with ThreadPoolExecutor(1) as threads:
        find: Any = list
        store = InsertConnection(lambda: psycopg2.connect(database_url, async_=True), find, threads)
        writer = BatchWriter([store], enqueuer, QueueSizes(redis_client, 100, Room()))
        for one in batch:  # Before it begins: it then stores them together.
            writer.put(one)
        writer.start()
        outcomes = await asyncio.gather(*(one.future for one in batch), return_exceptions=True)
        await writer.stop()
    assert [isinstance(outcome, Invalid) for outcome in outcomes] == [False, *[True] * 3, False]
    stored = {str(row["id"]) for row in sql("SELECT id FROM predictions")}
    assert stored == {batch[0].row["id"], batch[-1].row["id"]}
