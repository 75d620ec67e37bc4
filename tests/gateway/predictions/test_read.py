from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import create_engine, event

from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.lifecycle.wire import encode
from inference_gateway.predictions import repository
from inference_gateway.settings import GatewaySettings

Eventually = Callable[..., Any]

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]

_INSERT = """
INSERT INTO predictions (id, owner, model, version, token, input, deadline, status, completed_at)
VALUES (%s, md5(%s)::uuid, 'ada/echo', '1', 't', '{}', now(), %s,
        CASE WHEN %s THEN NULL ELSE now() END)
"""


def _fill(sql: Sql, count: int, owner: str = "ada", status: str = "starting") -> list[str]:
    """Ids, newest first."""
    source = IdSource()
    made = [source.new()[0] for _ in range(count)]
    for new in made:
        sql(_INSERT, new, owner, status, status in ("starting", "processing"))
    return made[::-1]


def _ended(sql: Sql, output: str) -> str:
    """The id of one that has ended with this output."""
    (made,) = _fill(sql, 1)
    end = "status = 'succeeded', completed_at = now(), output = %s"
    sql(f"UPDATE predictions SET {end} WHERE id = %s", output, made)
    return made


async def _page(client: httpx.AsyncClient, auth: Auth, url: str) -> tuple[list[str], Any]:
    reply = await client.get(url, headers=auth("ada"))
    assert reply.status_code == 200, reply.text
    return [result["id"] for result in reply.json()["results"]], reply.json()


async def test_pages_are_stable_while_predictions_come(
    client: httpx.AsyncClient, auth: Auth, sql: Sql
) -> None:
    ids = _fill(sql, 7)
    _fill(sql, 2, owner="bob")
    first, page = await _page(client, auth, "/v1/predictions?limit=3")
    assert page["previous"] is None
    newer = _fill(sql, 2)
    second, page = await _page(client, auth, page["next"])
    third, last = await _page(client, auth, page["next"])
    assert first + second + third == ids
    assert last["next"] is None
    back, page = await _page(client, auth, page["previous"])
    assert back == first
    top, page = await _page(client, auth, page["previous"])
    assert top == newer
    assert page["previous"] is None


async def test_a_page_of_large_predictions_ends_early(
    client: httpx.AsyncClient, auth: Auth, sql: Sql
) -> None:
    ids = _fill(sql, 5)
    sql("UPDATE predictions SET output = to_jsonb(repeat('x', 3000000))")
    first, page = await _page(client, auth, "/v1/predictions")
    second, page = await _page(client, auth, page["next"])
    third, page = await _page(client, auth, page["next"])
    assert [first, second, third] == [ids[:2], ids[2:4], ids[4:]]
    assert page["next"] is None


async def test_an_empty_page(client: httpx.AsyncClient, auth: Auth) -> None:
    reply = await client.get("/v1/predictions", headers=auth("ada"))
    assert reply.json() == {"next": None, "previous": None, "results": []}


async def test_filters(client: httpx.AsyncClient, auth: Auth, sql: Sql) -> None:
    ended = _fill(sql, 2, status="succeeded")
    waiting = _fill(sql, 3)
    found, page = await _page(client, auth, "/v1/predictions?status=starting&limit=2")
    rest, _ = await _page(client, auth, page["next"])
    assert found + rest == waiting
    assert (await _page(client, auth, "/v1/predictions?model=ada/none"))[0] == []
    assert (await _page(client, auth, "/v1/predictions?created_after=2020-01-01"))[0] == (
        waiting + ended
    )
    assert (await _page(client, auth, "/v1/predictions?created_before=2020-01-01T00:00:00Z"))[
        0
    ] == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "status=done", "cursor=x", "cursor=%00"),
        *("created_after=now", "created_after=1700000000", "created_before=-0.5"),
        *("created_after=-1.5e-216", "created_after=%2B1e2", "created_before=1700000000."),
    ],
)
async def test_wrong_queries(client: httpx.AsyncClient, auth: Auth, query: str) -> None:
    reply = await client.get(f"/v1/predictions?{query}", headers=auth("ada"))
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"].startswith("query.")


@pytest.mark.parametrize("name", ["bob", "ada"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/stream"), ("POST", "/cancel")])
async def test_what_is_not_yours_is_not_there(
    client: httpx.AsyncClient, auth: Auth, sql: Sql, name: str, method: str, path: str
) -> None:
    prediction_id = _fill(sql, 1)[0] if name == "bob" else "not-an-id"
    url = f"/v1/predictions/{prediction_id}{path}"
    reply = await client.request(method, url, headers=auth(name))
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_running_prediction_shows_its_output_so_far(
    client: httpx.AsyncClient, auth: Auth, sql: Sql, echo: str, runner: Any
) -> None:
    (prediction_id,) = _fill(sql, 1, status="processing")
    job = {"id": prediction_id, "attempt": 1}
    url = f"/v1/predictions/{prediction_id}"
    assert (await client.get(url, headers=auth("ada"))).json()["output"] is None
    runner.stream(job, 1, "output", output="a")
    runner.stream(job, 2, "logs", logs="line")
    runner.stream(job, 3, "output", output="b")
    assert (await client.get(url, headers=auth("ada"))).json()["output"] == ["a", "b"]
    runner.stream({**job, "attempt": 2}, 1, "output", output="again")
    sql("UPDATE predictions SET attempt = 2")
    assert (await client.get(url, headers=auth("ada"))).json()["output"] == ["again"]


async def test_cancel_ends_a_wait_and_may_be_repeated(
    client: httpx.AsyncClient, auth: Auth, echo: str, runner: Any, eventually: Eventually
) -> None:
    body = {"model_id": echo, "input": {"text": "hi"}}
    headers = {**auth("ada"), "Prefer": "wait=20"}
    call = asyncio.create_task(client.post("/v1/predictions", json=body, headers=headers))
    jobs = await eventually(runner.waiting)
    url = f"/v1/predictions/{jobs[0]['id']}/cancel"
    for _ in range(2):
        reply = await client.post(url, headers=auth("ada"))
        assert (reply.status_code, reply.json()["status"]) == (200, "canceled")
    assert (await call).json()["status"] == "canceled"
    assert runner.waiting() == []


def test_pages_come_from_the_index_of_the_owner(settings: GatewaySettings, sql: Sql) -> None:
    """Also for an owner whose rows are many, and all older than everybody else's."""
    sql(
        "INSERT INTO predictions (id, owner, model, version, token, input, deadline, status, "
        "completed_at) SELECT uuidv7(), md5(CASE WHEN n < 4000 THEN 'early' ELSE 'late' END)::uuid,"
        " 'ada/echo', '1', 't', '{}', now(), 'succeeded', now() "
        "FROM generate_series(1, 20000) n"
    )
    sql("VACUUM ANALYZE predictions")
    early = str(sql("SELECT md5('early')::uuid AS id")[0]["id"])
    statements: list[str] = []
    engine = create_engine(settings.database_url.replace("postgresql:", "postgresql+psycopg2:"))

    @event.listens_for(engine, "before_cursor_execute")
    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        statements.append("\n".join(line for (line,) in cursor.fetchall()))

    page = repository.page(engine, repository.Filter(early), 100)
    repository.page(engine, repository.Filter(early), 100, older_than=page.rows[-1]["id"])
    repository.page(engine, repository.Filter(early), 100, newer_than=page.rows[-1]["id"])
    engine.dispose()
    assert len(page.rows) == 100
    assert len(statements) == 3
    for plan in statements:
        assert re.search("Index Only Scan (Backward )?using predictions_owner_id_idx", plan)
        assert "Seq Scan" not in plan


_WORSE = {
    "deep": ('"input"', "[" * 300 + "]" * 300),
    "deeper": ('"output"', "[" * 3000 + "]" * 3000),
    "a float that jsonb makes an integer": ('"output"', "1e30"),
    "a number without end": ('"output"', "1e400"),
    "metrics that are none": ("metrics", "[1]"),
}


@pytest.mark.parametrize("case", _WORSE)
async def test_a_row_that_the_api_would_not_take_is_shown_with_the_others(
    client: httpx.AsyncClient, auth: Auth, sql: Sql, case: str
) -> None:
    ids = _fill(sql, 3, status="processing")
    column, content = _WORSE[case]
    sql(f"UPDATE predictions SET {column} = %s::jsonb WHERE id = %s", content, ids[1])
    assert (await _page(client, auth, "/v1/predictions"))[0] == ids
    for path in (f"/v1/predictions/{ids[1]}", f"/v1/predictions/{ids[1]}/cancel"):
        method = "POST" if path.endswith("cancel") else "GET"
        reply = await client.request(method, path, headers=auth("ada"))
        assert reply.status_code == 200
        assert reply.json()["id"] == ids[1]
        is_shown = case in ("a float that jsonb makes an integer", "metrics that are none")
        assert (reply.json()["error_code"] == "unreadable") is not is_shown


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "200000-01-01", "0044-03-15 BC"])
async def test_a_moment_beyond_pythons_years_keeps_nobody_from_his_list(
    client: httpx.AsyncClient, auth: Auth, sql: Sql, moment: str
) -> None:
    ids = _fill(sql, 2)
    sql("UPDATE predictions SET completed_at = %s, status = 'failed' WHERE id = %s", moment, ids[0])
    assert (await _page(client, auth, "/v1/predictions"))[0] == ids


async def test_a_float_comes_back_as_it_was(
    client: httpx.AsyncClient, auth: Auth, sql: Sql
) -> None:
    (shown,) = _fill(sql, 1)
    numbers = [1e30, 1.7976931348623157e308, 5e-324, 1e22, 2.5, -0.5, 2**64 - 1]
    sql("UPDATE predictions SET output = %s::jsonb", orjson.dumps(numbers).decode())
    reply = await client.get(f"/v1/predictions/{shown}", headers=auth("ada"))
    assert orjson.loads(reply.content)["output"] == numbers


def test_what_cannot_be_encoded_is_shown_as_an_error() -> None:
    moment = datetime.now(UTC)
    row: Any = dict.fromkeys(
        ("id", "model", "version", "status", "logs", "error", "error_code", "webhook"), "x"
    )
    row |= dict.fromkeys(("created_at", "started_at", "completed_at", "deadline"), moment)
    row |= {"input": {}, "output": {1, 2}, "metrics": None}
    pieces = encode(row, "http://a")
    shown = orjson.loads(b"".join(pieces))
    assert (shown["id"], shown["error_code"], shown["output"]) == ("x", "unreadable", None)
    assert "cannot be shown" in shown["error"]


async def test_a_large_output_is_passed_on_as_it_is_stored(
    client: httpx.AsyncClient, auth: Auth, sql: Sql
) -> None:
    output = [[number, {"text": "]{[" * 5}] for number in range(8000)]
    found = _ended(sql, orjson.dumps(output).decode())
    shown = (await client.get(f"/v1/predictions/{found}", headers=auth("ada"))).json()
    assert (shown["status"], shown["output"]) == ("succeeded", output)
    listed = (await client.get("/v1/predictions", headers=auth("ada"))).json()["results"]
    assert listed == [shown]


async def test_a_large_output_that_is_too_deep_is_not_shown(
    client: httpx.AsyncClient, auth: Auth, sql: Sql
) -> None:
    deep = "[" * 100 + "]" * 100
    found = _ended(sql, f"[{', '.join([deep] * 1000)}]")
    shown = (await client.get(f"/v1/predictions/{found}", headers=auth("ada"))).json()
    assert (shown["output"], shown["error_code"]) == (None, "unreadable")
