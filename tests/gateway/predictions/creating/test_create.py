from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference_contract import queues
from inference_gateway.api.app import create_app
from inference_gateway.settings import GatewaySettings

Eventually = Callable[..., Any]

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]
BODY = {"model_id": "ada/echo", "input": {"text": "hi"}}


async def _create(client: httpx.AsyncClient, auth: Auth, body: Any = BODY, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/predictions", json=body, headers={**auth("ada"), **named})


@pytest.fixture
def nothing_under_way(settings: GatewaySettings) -> None:
    """Room for no large answer."""
    settings.max_bytes_in_flight = 0


async def test_a_prediction_is_stored_and_queued(
    client: httpx.AsyncClient, auth: Auth, echo: str, runner: Any, sql: Sql, eventually: Eventually
) -> None:
    reply = await _create(client, auth)
    made = reply.json()
    assert reply.status_code == 201
    assert made["status"] == "starting"
    assert made["model"] == made["model_id"] == echo
    assert made["input"] == {"text": "hi", "times": 1}
    assert reply.headers["location"] == made["urls"]["get"]
    assert "preference-applied" not in reply.headers
    (row,) = sql("SELECT *, deadline - created_at AS lives FROM predictions")
    assert row["id"] == made["id"]
    assert row["lives"].total_seconds() == 86_400
    jobs = await eventually(runner.waiting)
    expected = {"id": made["id"], "attempt": 1, "token": row["token"], "notify": [], "crashes": 0}
    assert jobs == [{**expected, "input": made["input"]}]


async def test_the_answer_to_create_is_what_get_says(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    made = (await _create(client, auth, Cancel_After="5m")).json()
    read = await client.get(made["urls"]["get"], headers=auth("ada"))
    assert read.json() == made


async def test_the_model_in_the_path(client: httpx.AsyncClient, auth: Auth, echo: str) -> None:
    url = "/v1/models/ada/echo/predictions"
    reply = await client.post(url, json={"input": {"text": "hi"}}, headers=auth("ada"))
    assert (reply.status_code, reply.json()["model"]) == (201, echo)


async def test_waiting_answers_with_the_end_once_it_is_recorded(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    request: pytest.FixtureRequest,
    eventually: Eventually,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
    jobs = await eventually(runner.waiting)
    runner.send("succeeded", jobs[0], output="HI", predict_time=0.001, metrics={"tokens": 2})
    assert not (await asyncio.wait([call], timeout=0.3))[0], "nobody has recorded it"
    request.getfixturevalue("recorder")
    reply = await call
    answered = reply.json()
    assert reply.status_code == 201
    assert reply.headers["preference-applied"] == "wait=20"
    assert (answered["status"], answered["output"]) == ("succeeded", "HI")
    assert answered["metrics"]["tokens"] == 2
    read = await client.get(answered["urls"]["get"], headers=auth("ada"))
    assert read.json() == answered


@pytest.mark.parametrize(
    "output", ["x" * 100_000, ["é", {"b": 1, "a": None}], 1e30, 0.1, "", None, [], {}, False]
)
async def test_what_a_caller_is_told_is_what_get_says_right_after(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
    output: Any,
) -> None:
    """Also what is too large to be told to everybody."""
    call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
    (job,) = await eventually(runner.waiting)
    runner.send("succeeded", job, output=output, predict_time=0.5, logs="line\n")
    answered = (await call).json()
    assert answered["status"] == "succeeded"
    read = await client.get(answered["urls"]["get"], headers=auth("ada"))
    assert read.json() == answered
    assert answered["output"] == output


async def test_while_too_much_is_under_way_a_large_end_is_not_waited_for(
    nothing_under_way: None,
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
    sql: Sql,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
    (job,) = await eventually(runner.waiting)
    output = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9000), k=30_000)))
    runner.send("succeeded", job, output=output, predict_time=0.5)
    answered = await call
    assert (answered.status_code, answered.json()["status"]) == (202, "starting")
    assert sql("SELECT status FROM predictions") == [{"status": "succeeded"}]
    refused = await client.get(answered.json()["urls"]["get"], headers=auth("ada"))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


async def test_an_event_that_redis_lost_is_nothing_that_anybody_was_told(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    sql: Sql,
    request: pytest.FixtureRequest,
    eventually: Eventually,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
    (job,) = await eventually(runner.waiting)
    runner.send("succeeded", job, output="first")
    await asyncio.sleep(0.1)  # Time to answer, for a gateway that does not wait for the row.
    runner.redis.delete(queues.events_key("ada_echo"))
    sql("UPDATE predictions SET attempt = 2, token = 'second'")
    request.getfixturevalue("recorder")
    runner.send("succeeded", {**job, "attempt": 2, "token": "second"}, output="second")
    answered = (await call).json()
    assert answered["output"] == "second"
    assert (await client.get(answered["urls"]["get"], headers=auth("ada"))).json() == answered


async def test_while_nothing_is_recorded_a_wait_ends_in_starting(
    client: httpx.AsyncClient, auth: Auth, echo: str, runner: Any, eventually: Eventually
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=1"))
    (job,) = await eventually(runner.waiting)
    runner.send("succeeded", job, output="HI")
    reply = await call
    assert (reply.status_code, reply.json()["status"]) == (202, "starting")
    assert reply.json()["output"] is None


async def test_replays_while_the_first_is_in_flight_get_the_same_end(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
) -> None:
    calls = [
        asyncio.create_task(_create(client, auth, Prefer="wait=20", Idempotency_Key="k"))
        for _ in range(4)
    ]
    (job,) = await eventually(runner.waiting)
    runner.send("succeeded", job, output="HI", predict_time=0.25)
    answers = [(await call).json() for call in calls]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["output"] == "HI"


async def test_a_cancel_that_races_with_an_end_and_the_wait_tell_the_same(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
    (job,) = await eventually(runner.waiting)
    url = f"/v1/predictions/{job['id']}"
    runner.send("succeeded", job, output="HI")
    canceled = (await client.post(f"{url}/cancel", headers=auth("ada"))).json()
    answered = (await call).json()
    assert answered["status"] in ("succeeded", "canceled")
    if canceled["completed_at"] is not None:
        assert canceled == answered
    assert (await client.get(url, headers=auth("ada"))).json() == answered


async def test_waiting_in_vain_answers_202_and_starting(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql
) -> None:
    reply = await _create(client, auth, Prefer="wait=1")
    assert (reply.status_code, reply.json()["status"]) == (202, "starting")
    assert reply.headers["preference-applied"] == "wait=1"
    assert len(sql("SELECT 1 FROM predictions")) == 1


async def test_an_event_of_another_attempt_ends_no_wait(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=10"))
    jobs = await eventually(runner.waiting)
    runner.send("succeeded", {**jobs[0], "token": "stale"}, output="stale")
    runner.send("succeeded", jobs[0], output="true")
    assert (await call).json()["output"] == "true"


async def test_a_later_attempt_ends_the_wait(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    sql: Sql,
    eventually: Eventually,
) -> None:
    call = asyncio.create_task(_create(client, auth, Prefer="wait=10"))
    jobs = await eventually(runner.waiting)
    sql("UPDATE predictions SET attempt = 2, token = 'second'")
    runner.send("succeeded", {**jobs[0], "attempt": 2, "token": "second"}, output="again")
    assert (await call).json()["output"] == "again"


async def test_the_same_idempotency_key_gives_the_same_prediction(
    client: httpx.AsyncClient, auth: Auth, echo: str, runner: Any, sql: Sql, eventually: Eventually
) -> None:
    replies = await asyncio.gather(
        *(_create(client, auth, Idempotency_Key="k") for _ in range(5)), _create(client, auth)
    )
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies[:5]}) == 1
    assert len(sql("SELECT 1 FROM predictions")) == 2
    jobs = await eventually(lambda: len(runner.waiting()) >= 2 and runner.waiting())
    assert len(jobs) == 2


async def test_an_idempotency_key_with_another_request_is_refused(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql
) -> None:
    await _create(client, auth, Idempotency_Key="k")
    other = {**BODY, "input": {"text": "other"}}
    for prefer in ("respond-async", "wait=5"):
        reply = await _create(client, auth, other, Idempotency_Key="k", Prefer=prefer)
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["field"] == "Idempotency-Key"
    assert len(sql("SELECT 1 FROM predictions")) == 1


@pytest.mark.parametrize("prefer", ["respond-async", "wait=1"])
async def test_a_key_finds_its_prediction_after_the_model_was_deleted(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql, prefer: str
) -> None:
    made = (await _create(client, auth, Idempotency_Key="k")).json()
    assert (await client.delete(f"/v1/models/{echo}", headers=auth("ada"))).status_code < 300
    sql(
        "UPDATE predictions SET status = 'canceled', completed_at = now() "
        "WHERE completed_at IS NULL"
    )
    again = await _create(client, auth, Idempotency_Key="k", Prefer=prefer)
    assert (again.status_code, again.json()["id"]) == (201, made["id"])
    other = {**BODY, "input": {"text": "other"}}
    assert (await _create(client, auth, other, Idempotency_Key="k")).status_code == 404
    assert (await _create(client, auth, Idempotency_Key="new")).status_code == 404


async def test_a_key_finds_its_prediction_after_the_model_takes_other_inputs(
    client: httpx.AsyncClient, auth: Auth, echo: str, app: FastAPI, home: Any
) -> None:
    made = (await _create(client, auth, Idempotency_Key="k")).json()
    document = home / "models" / "ada" / "echo.yaml"
    document.write_text(document.read_text().replace("text:", "sentence:"))
    app.state.services.catalog.refresh()
    assert (await _create(client, auth)).status_code == 422
    again = await _create(client, auth, Idempotency_Key="k")
    assert (again.status_code, again.json()["id"]) == (201, made["id"])


async def test_idempotency_keys_are_each_users_own(
    client: httpx.AsyncClient, auth: Auth, echo: str, make_model: Any
) -> None:
    make_model("ada", "open", visibility="public")
    body = {"model_id": "ada/open", "input": {"prompt": "hi"}}
    ids = set()
    for name in ("ada", "bob"):
        headers = {**auth(name), "Idempotency-Key": "k"}
        reply = await client.post("/v1/predictions", json=body, headers=headers)
        ids.add(reply.json()["id"])
    assert len(ids) == 2


async def test_waiting_again_under_a_key_waits_for_the_first(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    runner: Any,
    recorder: Any,
    eventually: Eventually,
    app: FastAPI,
) -> None:
    made = (await _create(client, auth, Idempotency_Key="k")).json()
    call = asyncio.create_task(_create(client, auth, Idempotency_Key="k", Prefer="wait=10"))
    hub = app.state.services.predictions.hub
    await eventually(lambda: hub.waited_for() == 1)
    (job,) = runner.waiting()
    runner.send("failed", job, error="no", error_code="model_error")
    answered = (await call).json()
    assert (answered["id"], answered["status"]) == (made["id"], "failed")
    assert (answered["error"], answered["error_code"]) == ("no", "model_error")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({**BODY, "extra": 1}, 422, "extra"),
        ({**BODY, "input": {"text": 3}}, 422, "input.text"),
        ({**BODY, "input": {"text": "\0"}}, 422, "input"),
        ({**BODY, "webhook": "ftp://example.com"}, 422, "webhook"),
        ({**BODY, "webhook": "http://10.0.0.1/"}, 422, "webhook"),
        ({**BODY, "model_id": "ada/none"}, 404, None),
        ({"version": "ada/echo:9", "input": {"text": "hi"}}, 404, None),
        ({**BODY, "input": {"text": "x" * 8_000_001}}, 413, None),
        ({**BODY, "input": {"text": "x" * 10_000_001}}, 413, None),
    ],
)
async def test_what_is_refused(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    sql: Sql,
    body: Any,
    status: int,
    field: str | None,
) -> None:
    reply = await _create(client, auth, body)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert [error["field"] for error in reply.json()["errors"]] == [field]
    assert not sql("SELECT 1 FROM predictions")


@pytest.mark.parametrize("input", [{}, {"prompt": "Hi", "messages": [{"role": "user"}]}])
async def test_text_generation_takes_either_a_prompt_or_messages(
    client: httpx.AsyncClient, auth: Auth, make_model: Any, sql: Sql, input: Any
) -> None:
    make_model("ada", "writer")
    reply = await _create(client, auth, {"model_id": "ada/writer", "input": input})
    message = "must have exactly one of: prompt, messages"
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"field": "input", "message": message}]
    assert not sql("SELECT 1 FROM predictions")


async def test_without_a_token(client: httpx.AsyncClient, echo: str) -> None:
    reply = await client.post("/v1/predictions", json=BODY)
    assert reply.status_code == 401


async def test_a_webhook_is_told_the_end_unless_it_wants_more(
    client: httpx.AsyncClient, auth: Auth, echo: str, runner: Any, sql: Sql, eventually: Eventually
) -> None:
    hook = {**BODY, "webhook": "https://example.com/hook"}
    assert (await _create(client, auth, hook)).json()["webhook"] == "https://example.com/hook"
    await _create(client, auth, {**hook, "webhook_events_filter": ["start", "output"]})
    rows = sql("SELECT webhook_events FROM predictions ORDER BY id")
    assert [row["webhook_events"] for row in rows] == [["completed"], ["start", "output"]]
    jobs = await eventually(lambda: len(runner.waiting()) == 2 and runner.waiting())
    assert [job["notify"] for job in jobs] == [[], ["output"]]


async def test_links_in_webhooks_lead_to_what_the_creator_reached_us_at(
    client: httpx.AsyncClient, auth: Auth, echo: str, sql: Sql
) -> None:
    headers = {**auth("ada"), "Host": "models.example:8443"}
    for body in ({**BODY, "webhook": "https://example.com/hook"}, BODY):
        reply = await client.post("/v1/predictions", json=body, headers=headers)
        assert reply.json()["urls"]["get"].startswith("http://models.example:8443/v1/")
    rows = sql("SELECT base_url FROM predictions ORDER BY id")
    assert [row["base_url"] for row in rows] == ["http://models.example:8443", None]


async def test_too_many_open_predictions(
    settings: GatewaySettings, auth: Auth, echo: str, sql: Sql
) -> None:
    app = create_app(settings.model_copy(update={"max_open_predictions": 2}))
    async with _client(app) as client:
        for _ in range(2):
            assert (await _create(client, auth)).status_code == 201
        reply = await _create(client, auth)
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "1"
    assert "2 predictions of ada/echo" in reply.json()["detail"]
    assert len(sql("SELECT 1 FROM predictions")) == 2


async def test_without_redis_predictions_are_accepted(
    settings: GatewaySettings, auth: Auth, echo: str, sql: Sql
) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with _client(create_app(away)) as client:
        reply = await _create(client, auth)
        assert reply.status_code == 201
        reply = await _create(client, auth, Prefer="wait=1")
        assert reply.status_code == 202
    assert len(sql("SELECT 1 FROM predictions")) == 2


async def test_without_redis_a_wait_ends_by_the_row(
    settings: GatewaySettings, auth: Auth, echo: str, sql: Sql, eventually: Eventually
) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    app = create_app(away)
    async with _client(app) as client:
        app.state.services.predictions.hub.recheck_seconds = 0.05
        call = asyncio.create_task(_create(client, auth, Prefer="wait=20"))
        end = (
            "UPDATE predictions SET status = 'succeeded', output = '\"HI\"', "
            "completed_at = now() RETURNING id"
        )
        await eventually(lambda: sql(end))
        assert (await call).json()["output"] == "HI"


async def test_without_postgresql_nothing_is_accepted(
    settings: GatewaySettings, auth: Auth, echo: str, runner: Any
) -> None:
    headers = auth("ada")
    away = {"database_url": "postgresql://nobody@/none?host=/nowhere"}
    async with _client(create_app(settings.model_copy(update=away))) as client:
        for extra in ({}, {"Prefer": "wait=5"}, {"Idempotency-Key": "k"}):
            reply = await client.post("/v1/predictions", json=BODY, headers={**headers, **extra})
            assert reply.status_code == 503
            assert "nothing was stored" in reply.json()["detail"]
            assert "retry-after" in reply.headers
    assert runner.waiting() == []


def _client(app: FastAPI) -> Any:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def running() -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            yield client

    return running()


@pytest.mark.parametrize(("is_admin", "status"), [(True, 201), (False, 422)])
async def test_a_webhook_to_this_machine_is_an_administrators(
    client: httpx.AsyncClient,
    auth: Auth,
    make_model: Any,
    settings: GatewaySettings,
    is_admin: bool,
    status: int,
) -> None:
    settings.webhook_allow_loopback = True
    make_model("bob", "public", visibility="public")
    body = {"version": "bob/public", "input": {"prompt": "x"}, "webhook": "http://127.0.0.1:5432/"}
    headers = auth("ada", admin=is_admin)
    made = await client.post("/v1/predictions", json=body, headers=headers)
    assert made.status_code == status
