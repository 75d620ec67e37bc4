"""What is stored when connections break."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import orjson
import psycopg2
import pytest
from sqlalchemy import create_engine

from inference_contract import files
from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.postgres import polled
from inference_gateway.predictions import repository
from inference_gateway.predictions.creating import insert as module
from inference_gateway.predictions.creating.insert import InDoubt, InsertConnection

ADA = "5f1d9d1e-3bd0-4b5f-9d0f-6a3f3b9c2a10"
Sql = Callable[..., list[dict[str, Any]]]


def _rows(count: int, key: str | None = None) -> list[Any]:
    source = IdSource()
    rows = []
    for _ in range(count):
        prediction_id, token = source.new()
        rows.append(
            {
                "id": prediction_id,
                "token": token,
                "owner": ADA,
                "model": "ada/echo",
                "version": "1",
                "input": orjson.Fragment(b'{"a":1}'),
                "input_bytes": 7,
                "held": False,
                "webhook": None,
                "webhook_events": None,
                "base_url": None,
                "idempotency_key": key,
                "request_hash": key,
                "created_at": None,
                "deadline": None,
                "lives_seconds": 60,
            }
        )
    return rows


class Flaky:
    """Connects; tells what is to break."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_away = False
        self.then: Callable[[], None] = lambda: None
        """Done when the name of the server is to be resolved."""
        self.connections: list[Any] = []

    def __call__(self) -> Any:
        if self.is_away:
            raise psycopg2.OperationalError("away")
        self.then()
        self.connections.append(psycopg2.connect(self.url, async_=True))
        return self.connections[-1]


@pytest.fixture
def connect(database_url: str) -> Flaky:
    return Flaky(database_url)


@pytest.fixture(params=["small", "large"])
async def store(
    request: pytest.FixtureRequest, connect: Flaky, database_url: str, monkeypatch: Any
) -> Any:
    """That of large batches works on a thread where the other does on the event loop."""
    if request.param == "large":
        monkeypatch.setattr(module, "LARGE_BYTES", 1)
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg2:"))
    with ThreadPoolExecutor(1) as threads:
        store = InsertConnection(
            connect, lambda rows: repository.of_batch(engine, rows), threads, 0.3
        )
        yield store
        store.close()
    engine.dispose()


def _stored(sql: Sql) -> list[str]:
    return [row["id"] for row in sql("SELECT id FROM predictions ORDER BY id")]


async def test_a_connection_that_a_restart_cut_is_replaced(
    store: InsertConnection, sql: Sql
) -> None:
    await store.insert(_rows(1))
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%EXECUTE create%'"
        " AND pid <> pg_backend_pid()"
    )
    rows = _rows(2)
    assert await store.insert(rows) == rows
    assert len(_stored(sql)) == 3


async def test_a_connection_that_is_cut_while_nobody_uses_it_is_forgotten(
    store: InsertConnection, connect: Flaky, sql: Sql, eventually: Callable[..., Any]
) -> None:
    """Its file stays readable for ever: a loop that goes on looking at it does nothing else."""
    await store.insert(_rows(1))
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%EXECUTE create%'"
        " AND pid <> pg_backend_pid()"
    )
    closed_by_us = 1
    await eventually(lambda: connect.connections[0].closed == closed_by_us)
    await store.insert(_rows(1))
    assert len(_stored(sql)) == 2


async def test_a_large_batch_passes_piece_by_piece(store: InsertConnection, sql: Sql) -> None:
    """PostgreSQL takes only so much of it at once: the rest is written when it has room."""
    rows = _rows(40)
    for row in rows:
        row["input"] = orjson.Fragment(b'{"a":"' + b"x" * 500_000 + b'"}')
        row["input_bytes"] = 500_000
    assert await store.insert(rows) == rows
    assert len(_stored(sql)) == 40


async def test_a_commit_whose_answer_is_lost_counts_once(
    store: InsertConnection, lossy_postgres: Any, connect: Flaky, sql: Sql, database_url: str
) -> None:
    connect.url = lossy_postgres.url(database_url)
    lossy_postgres.loses = b"EXECUTE create"
    rows = _rows(3)
    stored = await store.insert(rows)
    assert lossy_postgres.lost.is_set()
    assert [str(row["id"]) for row in stored] == [row["id"] for row in rows]
    assert all(row["created_at"] is not None for row in stored)
    assert len(_stored(sql)) == 3


async def test_what_may_be_stored_is_said_to_be_in_doubt_and_stays(
    store: InsertConnection, lossy_postgres: Any, connect: Flaky, sql: Sql, database_url: str
) -> None:
    connect.url = lossy_postgres.url(database_url)
    lossy_postgres.loses, lossy_postgres.is_away_after = b"EXECUTE create", True
    rows = _rows(2)
    with pytest.raises(InDoubt):
        await store.insert(rows)
    lossy_postgres.is_up = True
    await store.insert(_rows(1))
    assert {row["id"] for row in rows} <= set(_stored(sql))


async def test_a_refusal_after_a_lost_answer_leaves_it_in_doubt(
    store: InsertConnection, lossy_postgres: Any, connect: Flaky, sql: Sql, database_url: str
) -> None:
    """The server that comes after may be a standby: it knows nothing of the commit."""
    connect.url = lossy_postgres.url(database_url)
    await store.insert(_rows(1))
    name = database_url.partition("?")[0].rpartition("/")[2]
    lossy_postgres.loses = b"EXECUTE create"
    sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(InDoubt):
        await store.insert(_rows(1))
    assert len(_stored(sql)) == 2


async def test_after_a_time_without_writes_it_stores_again(
    store: InsertConnection, sql: Sql, database_url: str
) -> None:
    name = database_url.partition("?")[0].rpartition("/")[2]
    sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        await store.insert(_rows(1))
    sql("SET default_transaction_read_only = off")
    sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await store.insert(_rows(1))
    assert len(_stored(sql)) == 1


async def test_without_a_server_it_fails_at_once(store: InsertConnection, connect: Flaky) -> None:
    connect.is_away = True
    with pytest.raises(psycopg2.OperationalError):
        await store.insert(_rows(1))


async def test_a_store_connects_whatever_else_is_open(store: InsertConnection, sql: Sql) -> None:
    """Each client is a file: those of a gateway that many use are beyond the first 1,024."""
    files.raise_limit()
    with ExitStack() as opened:
        for _ in range(1100):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        await store.insert(_rows(1))
        store.close()
    assert len(_stored(sql)) == 1


async def test_a_name_that_takes_long_to_resolve_leaves_time_to_connect(
    store: InsertConnection, connect: Flaky, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver asks its second server after 5 s."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(polled, "time", clock)
    connect.then = lambda: setattr(clock, "now", 5.0)
    await store.insert(_rows(1))
    assert len(_stored(sql)) == 1


async def test_a_name_that_nobody_resolves_stores_nothing(
    store: InsertConnection, connect: Flaky
) -> None:
    def fail() -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    connect.then = fail
    with pytest.raises(psycopg2.OperationalError):
        await store.insert(_rows(1))


async def test_a_taken_key_gives_the_older_row(store: InsertConnection, sql: Sql) -> None:
    (first,) = await store.insert(_rows(1, key="k"))
    fresh, again = [*_rows(1), *_rows(1, key="k")]
    assert str((await store.insert([fresh, again]))[0]["id"]) == fresh["id"]
    assert str((await store.insert([again]))[0]["id"]) == first["id"]
    assert len(_stored(sql)) == 2


async def test_bad_data_stores_nothing_of_its_batch(store: InsertConnection, sql: Sql) -> None:
    rows = _rows(2)
    rows[1]["input"] = orjson.Fragment(b'{"a":"\\u0000"}')
    with pytest.raises(psycopg2.DataError):
        await store.insert(rows)
    assert _stored(sql) == []
    assert await store.insert(rows[:1]) == rows[:1]
