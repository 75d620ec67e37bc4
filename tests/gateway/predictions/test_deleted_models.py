"""Predictions whose model goes away without the API: somebody removes its file."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import event_stream
import httpx
import pytest
import redis
from fastapi import FastAPI
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract import layout, queues
from inference_gateway.api.app import create_app
from inference_gateway.cleanup import deleted_models
from inference_gateway.lifecycle import cancel
from inference_gateway.models.files.store import YamlModelStore
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, Any]]]
BODY = {"model_id": "ada/echo", "input": {"text": "hi"}}
AWAY = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
GONE = {"status": "canceled", "error_code": "model_deleted", "error": "The model was deleted."}


class Document:
    """Of `ada/echo`, in the hands of somebody with an editor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = path.read_text()

    def remove(self) -> None:
        self.path.unlink()

    def put_back(self) -> None:
        self.path.write_text(self._content)


@pytest.fixture
def document(home: Path, echo: str) -> Document:
    return Document(layout.model_file(home, "ada", "echo"))


@pytest.fixture
def step(
    monkeypatch: pytest.MonkeyPatch, app: FastAPI, client: httpx.AsyncClient
) -> Callable[[], None]:
    """One look that gives no grace."""
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 0)

    def look() -> None:
        app.state.services.catalog.refresh()
        app.state.services.deleted_models.step()

    return look


async def _create(client: httpx.AsyncClient, auth: Auth, **changes: Any) -> dict[str, Any]:
    reply = await client.post("/v1/predictions", json={**BODY, **changes}, headers=auth("ada"))
    made: dict[str, Any] = reply.raise_for_status().json()
    return made


def _ends(sql: Sql) -> list[dict[str, Any]]:
    return sql("SELECT status, error_code, error FROM predictions ORDER BY id")


def test_everybody_hears_of_it(
    document: Document, live_url: str, auth: Auth, sql: Sql, runner: Any, wait_until: Any
) -> None:
    body = {**BODY, "webhook": "https://example.com/"}
    waits = {"Prefer": "wait=30"}
    replies = []
    with httpx.Client(base_url=live_url, headers=auth("ada"), timeout=40) as http:
        waiter = threading.Thread(
            target=lambda: replies.append(http.post("/v1/predictions", json=body, headers=waits))
        )
        waiter.start()
        (job,) = wait_until(runner.waiting)
        with http.stream("GET", f"/v1/predictions/{job['id']}/stream") as stream:
            document.remove()
            said = event_stream.pairs(stream)
        waiter.join(10)
    assert said[-1] == ("done", '{"reason":"canceled"}')
    (reply,) = replies
    assert reply.status_code == 201
    assert GONE.items() <= reply.json().items()
    assert _ends(sql) == [GONE]
    assert sql("SELECT event FROM webhook_deliveries") == [{"event": "completed"}]
    assert runner.waiting() == []


async def test_what_runs_may_finish(
    client: httpx.AsyncClient,
    document: Document,
    auth: Auth,
    sql: Sql,
    runner: Any,
    eventually: Any,
    step: Callable[[], None],
) -> None:
    await _create(client, auth)
    (job,) = await eventually(runner.waiting)
    key = queues.job_id("ada_echo", job["id"], 1)
    runner.redis.hdel(queues.job_key(key), "waits")
    runner.redis.delete(queues.queue_key("ada_echo"))
    document.remove()
    await asyncio.to_thread(step)
    (row,) = sql("SELECT status, cancel_requested_at FROM predictions")
    assert row == {"status": "starting", "cancel_requested_at": None}
    assert not runner.redis.exists(queues.cancel_key("ada_echo"))


async def test_a_model_that_went_while_the_gateway_was_away(
    settings: GatewaySettings,
    document: Document,
    auth: Auth,
    sql: Sql,
    eventually: Any,
) -> None:
    for goes in (False, True):
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            if goes:
                await eventually(lambda: _ends(sql) == [GONE])
            else:
                await _create(client, auth)
                document.remove()


@pytest.fixture(params=["broken", "unreadable", "no-disk", "not-seen-yet"])
def mishap(
    request: pytest.FixtureRequest, home: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Something that happens to a document, and is no deletion."""

    def happen() -> None:
        match request.param:
            case "broken":
                document.path.write_text("spec: {type: poetry}\n")
            case "unreadable":
                monkeypatch.setattr(Path, "lstat", _denied)
                document.path.rename(document.path.with_suffix(".kept"))
            case "no-disk":
                shutil.move(layout.models_dir(home), home / "elsewhere")
            case "not-seen-yet":
                monkeypatch.setattr(YamlModelStore, "list", lambda _: {})

    return happen


def _denied(_: Path) -> None:
    raise PermissionError


async def test_what_is_no_deletion_cancels_nothing(
    client: httpx.AsyncClient,
    auth: Auth,
    sql: Sql,
    step: Callable[[], None],
    mishap: Callable[[], None],
) -> None:
    await _create(client, auth)
    mishap()
    await asyncio.to_thread(step)
    assert [row["status"] for row in _ends(sql)] == ["starting"]


async def test_a_document_that_comes_back_in_time_keeps_its_queue(
    client: httpx.AsyncClient,
    document: Document,
    auth: Auth,
    sql: Sql,
    step: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _create(client, auth)
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 3600)
    document.remove()
    await asyncio.to_thread(step)
    document.put_back()
    await asyncio.to_thread(step)
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 0)
    await asyncio.to_thread(step)
    assert [row["status"] for row in _ends(sql)] == ["starting"]


async def test_nobody_asks_of_a_model_for_which_nothing_waits(
    client: httpx.AsyncClient,
    auth: Auth,
    document: Document,
    sql: Sql,
    step: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _create(client, auth)
    sql("UPDATE predictions SET status = 'processing'")
    asked: list[str] = []
    monkeypatch.setattr(YamlModelStore, "is_gone", lambda _, model: asked.append(model))
    document.remove()
    await asyncio.to_thread(step)
    assert asked == []
    assert [row["status"] for row in _ends(sql)] == ["processing"]


async def test_a_deletion_by_the_api_leaves_the_rest_to_the_next_look(
    client: httpx.AsyncClient,
    auth: Auth,
    document: Document,
    sql: Sql,
    step: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without Redis nobody knows what runs."""
    await _create(client, auth)
    with monkeypatch.context() as away:
        end = cancel.end_waiting
        away.setattr(cancel, "end_waiting", lambda engine, _, model: end(engine, AWAY, model))
        deleted = await client.delete("/v1/models/ada/echo", headers=auth("ada"))
        assert deleted.status_code == 204
        assert [row["status"] for row in _ends(sql)] == ["starting"]
    await asyncio.to_thread(step)
    assert _ends(sql) == [GONE]
