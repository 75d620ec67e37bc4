"""What is large is read only for those who are given it, and only if there is room for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import redis

from inference_gateway.lifecycle import cancel
from inference_gateway.postgres import db
from inference_gateway.predictions import repository
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]
BODY = {"model": "ada/echo", "input": {"text": "hi"}}
OUTPUT = [f"\U0001f600{number}" for number in range(100_000)]
END = "UPDATE predictions SET status = 'succeeded', completed_at = now(), output = %s"


@pytest.fixture
def no_room(settings: GatewaySettings) -> None:
    settings.max_bytes_in_flight = 0


@pytest.fixture
async def headers(client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql) -> dict[str, str]:
    """Those with which a prediction was made that has ended with a large output."""
    mine = auth("ada") | {"Idempotency-Key": "k"}
    made = await client.post("/v1/predictions", json=BODY, headers=mine)
    assert made.status_code == 201, made.text
    sql(END, orjson.dumps(OUTPUT).decode())
    return mine


def _id(sql: Sql) -> UUID:
    ((found,),) = (row.values() for row in sql("SELECT id FROM predictions"))
    return UUID(str(found))


async def test_a_repeated_key_is_answered_with_the_output(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    reply = await client.post("/v1/predictions", json=BODY, headers=headers)
    assert (reply.status_code, reply.json()["output"]) == (201, OUTPUT)


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("prefer", [{}, {"Prefer": "wait=5"}])
async def test_without_room_a_repeated_key_is_answered_that_it_is_accepted(
    client: httpx.AsyncClient, headers: dict[str, str], prefer: dict[str, str], sql: Sql
) -> None:
    reply = await client.post("/v1/predictions", json=BODY, headers=headers | prefer)
    made = reply.json()
    assert (reply.status_code, made["status"], made["output"]) == (202, "starting", None)
    assert (UUID(made["id"]), made["input"]["text"]) == (_id(sql), "hi")


async def test_a_cancel_of_what_has_ended_is_answered_with_the_output(
    client: httpx.AsyncClient, headers: dict[str, str], sql: Sql
) -> None:
    reply = await client.post(f"/v1/predictions/{_id(sql)}/cancel", headers=headers)
    assert (reply.status_code, reply.json()["output"]) == (200, OUTPUT)


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize(("method", "path"), [("GET", "/{}"), ("GET", ""), ("POST", "/{}/cancel")])
async def test_without_room_nothing_large_is_answered(
    client: httpx.AsyncClient, headers: dict[str, str], sql: Sql, method: str, path: str
) -> None:
    reply = await client.request(method, f"/v1/predictions{path.format(_id(sql))}", headers=headers)
    assert reply.status_code == 503
    assert "MAX_BYTES_IN_FLIGHT" in reply.json()["detail"]


@pytest.mark.usefixtures("headers")
def test_without_room_the_row_comes_without_what_is_large(
    settings: GatewaySettings, sql: Sql
) -> None:
    engine = db.short_lived_engine(settings)
    owner = str(sql("SELECT owner FROM predictions")[0]["owner"])
    size: Any = repository.get_large(engine, _id(sql), owner, 10)
    assert size is not None
    assert (size["input"], size["output"], size["logs"]) == (None, None, None)
    row = repository.get_large(engine, _id(sql), owner, size["bytes"])
    assert row is not None
    assert orjson.loads(row["output"].content) == OUTPUT
    assert size["bytes"] == len(row["output"].content) + len('{"text": "hi", "times": 1}')
    page = repository.page(engine, repository.Filter(owner), 10, room=size["bytes"] - 1)
    assert (list(page.rows), page.size) == ([], size["bytes"])
    engine.dispose()


@pytest.mark.usefixtures("headers")
def test_who_wants_the_state_reads_nothing_large(
    settings: GatewaySettings, sql: Sql, redis_client: redis.Redis
) -> None:
    engine = db.short_lived_engine(settings)
    owner = str(sql("SELECT owner FROM predictions")[0]["owner"])
    wanted: Any = {"id": str(_id(sql)), "owner": owner, "idempotency_key": "k"}
    rows = [
        *repository.of_batch(engine, [wanted]),
        repository.by_key(engine, owner, "k"),
        cancel.cancel(engine, redis_client, wanted["id"], owner),
    ]
    assert all(row is not None and "output" not in row for row in rows)
    engine.dispose()


@pytest.mark.parametrize(("letters", "is_small"), [(1000, True), (100_000, False)])
async def test_what_compresses_well_is_as_large_as_its_text(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    settings: GatewaySettings,
    sql: Sql,
    letters: int,
    is_small: bool,
) -> None:
    await client.post("/v1/predictions", json=BODY, headers=auth("ada"))
    sql(END, orjson.dumps("a" * letters).decode())
    (row,) = sql("SELECT owner, pg_column_size(output) AS stored FROM predictions")
    assert row["stored"] < 2000
    engine = db.short_lived_engine(settings)
    found = repository.get_small(engine, _id(sql), str(row["owner"]))
    engine.dispose()
    assert (found is not None) is is_small
