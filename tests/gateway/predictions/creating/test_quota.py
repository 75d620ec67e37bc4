"""Quotas on predictions at the API: open ones, and the bytes of all."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from typing import Any

import httpx
import psycopg2
import pytest
from sqlalchemy import create_engine

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.api.app import create_app, front
from inference_gateway.dispatch.usage import Usage
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]
MakeModel = Callable[..., InferenceModel]
TRUTH = (
    "SELECT owner, sum(pg_column_size(input) + coalesce(pg_column_size(output), 0)"
    " + pg_column_size(logs))::bigint FROM predictions GROUP BY owner ORDER BY 1"
)
"""What each account has stored."""


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    settings.quota_open_predictions = 5
    settings.quota_stored_bytes = "100k"
    settings.quota_streams = 2
    return settings


def sql(settings: GatewaySettings, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(settings.database_url)) as connection, connection as session:
        cursor = session.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def end_all(settings: GatewaySettings) -> None:
    sql(
        settings,
        "UPDATE predictions SET status = 'succeeded', completed_at = now()"
        " WHERE completed_at IS NULL",
    )


async def create(
    client: httpx.AsyncClient, headers: dict[str, str], prompt: str = "hello"
) -> httpx.Response:
    body = {"model": "ada/m", "input": {"prompt": prompt}}
    return await client.post("/v1/predictions", headers=headers, json=body)


async def test_no_more_may_wait_or_run_than_the_quota_says(
    client: httpx.AsyncClient, auth: Headers, make_model: MakeModel, settings: GatewaySettings
) -> None:
    make_model("ada", "m", visibility="public")
    ada = auth("ada")
    answers = await asyncio.gather(*(create(client, ada) for _ in range(30)))
    assert [a.status_code for a in answers].count(201) == 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["detail"].startswith("Request was throttled. 5 predictions of yours")
    assert "QUOTA_OPEN_PREDICTIONS" in refused.json()["detail"]
    assert refused.headers["Retry-After"] == "1"
    assert sql(settings, "SELECT count(*) FROM predictions") == [(5,)]
    # Another's are their own, and administrators have no quota.
    assert (await create(client, auth("bob"))).status_code == 201
    root = auth("root", admin=True)
    answers = await asyncio.gather(*(create(client, root) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}


async def test_what_has_ended_makes_room_at_once(
    client: httpx.AsyncClient, auth: Headers, make_model: MakeModel, settings: GatewaySettings
) -> None:
    make_model("ada", "m")
    ada = auth("ada")
    for _ in range(3):
        for _ in range(5):
            assert (await create(client, ada)).status_code == 201
        assert (await create(client, ada)).status_code == 429
        end_all(settings)
        await asyncio.sleep(0.11)  # so long what the database said holds, near the limit


async def test_two_gateways_know_of_each_others_predictions(
    auth: Headers, make_model: MakeModel, settings: GatewaySettings
) -> None:
    make_model("ada", "m")
    ada = auth("ada")
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            app = create_app(settings)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(front(app))
            client = httpx.AsyncClient(transport=transport, base_url="http://gateway")
            clients.append(await stack.enter_async_context(client))
        for number in range(4):
            assert (await create(clients[number % 2], ada)).status_code == 201
            await asyncio.sleep(0.11)
        statuses = [(await create(clients[number % 2], ada)).status_code for number in range(6)]
        assert statuses.count(201) <= 2
        await asyncio.sleep(0.11)
        assert (await create(clients[0], ada)).status_code == 429
        assert (await create(clients[1], ada)).status_code == 429


async def test_stored_bytes(
    client: httpx.AsyncClient, auth: Headers, make_model: MakeModel, settings: GatewaySettings
) -> None:
    make_model("ada", "m")
    ada = auth("ada")
    large = "".join(random.choices(string.ascii_letters, k=60_000))  # nothing to compress
    assert (await create(client, ada, large)).status_code == 201
    refused = await create(client, ada, large)
    assert refused.status_code == 403
    assert "100000 bytes (QUOTA_STORED_BYTES)" in refused.json()["detail"]
    assert (await create(client, ada, "small")).status_code == 201


async def test_the_database_knows_what_is_stored(
    client: httpx.AsyncClient, auth: Headers, make_model: MakeModel, settings: GatewaySettings
) -> None:
    make_model("ada", "m", visibility="public")
    for name in ("ada", "bob"):
        for _ in range(3):
            assert (await create(client, auth(name))).status_code == 201
    url = settings.database_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url)
    usage = Usage(engine)
    counted = "SELECT owner, stored_bytes FROM account_usage ORDER BY owner"
    usage.step()
    assert sql(settings, counted) == sql(settings, TRUTH) != []
    # What has ended long ago is added up once, the rest anew.
    sql(settings, "UPDATE predictions SET output = '[1, 2, 3]'")
    end_all(settings)
    usage.step()
    assert sql(settings, counted) == sql(settings, TRUTH)
    # These ended a moment ago: they are still added up anew.
    sql(settings, "DELETE FROM predictions WHERE id IN (SELECT id FROM predictions LIMIT 1)")
    usage.step()
    assert sql(settings, counted) == sql(settings, TRUTH)
    engine.dispose()


def test_what_has_ended_is_added_up_once_in_pages(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_gateway.dispatch.usage._PAGE", 4)
    sql(
        settings,
        "INSERT INTO predictions (id, owner, model, version, status, token, input, deadline,"
        " completed_at) SELECT ('01000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,"
        " md5((n % 2)::text)::uuid, 'a/m', '1', 'succeeded', 't', '{}', now(), now()"
        " FROM generate_series(1, 10) n",
    )
    engine = create_engine(settings.database_url.replace("postgresql", "postgresql+psycopg2", 1))
    usage = Usage(engine)
    while not sql(settings, "SELECT * FROM account_usage"):
        usage.step()
    counted = "SELECT owner, stored_bytes FROM account_usage ORDER BY owner"
    before = sql(settings, counted)
    assert before == sql(settings, TRUTH)
    assert len(before) == 2
    sql(settings, "DELETE FROM predictions")  # Nobody looks at them again.
    usage.step()
    assert sql(settings, counted) == before
    engine.dispose()


async def test_no_more_streams_are_open_than_the_quota_says(
    live_url: str, auth: Headers, make_model: MakeModel
) -> None:
    make_model("ada", "m", visibility="public")
    async with httpx.AsyncClient(base_url=live_url) as client:
        ada = auth("ada")
        made = (await create(client, ada)).json()
        path = f"/v1/predictions/{made['id']}/stream"
        async with client.stream("GET", path, headers=ada) as first:
            assert first.status_code == 200
            async with client.stream("GET", path, headers=ada) as second:
                assert second.status_code == 200
                refused = await client.get(path, headers=ada)
                assert refused.status_code == 429
                assert "QUOTA_STREAMS" in refused.json()["detail"]
                # Nobody else's: another may open some, though this one is not theirs.
                assert (await client.get(path, headers=auth("bob"))).status_code == 404


async def test_a_stream_that_is_closed_counts_no_more(
    live_url: str, auth: Headers, make_model: MakeModel
) -> None:
    make_model("ada", "m", visibility="public")
    async with httpx.AsyncClient(base_url=live_url) as client:
        ada = auth("ada")
        made = (await create(client, ada)).json()
        path = f"/v1/predictions/{made['id']}/stream"
        for _ in range(5):

            async def opens() -> bool:
                async with client.stream("GET", path, headers=ada) as stream:
                    return stream.status_code == 200

            async with asyncio.timeout(20):
                while not await opens():  # noqa: ASYNC110 - the server sets no asyncio.Event
                    await asyncio.sleep(0.01)
