"""What is done with the whole of a large request is done on a thread, one at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import psycopg2
import pytest
from fastapi import FastAPI

from inference_gateway.predictions.creating import multipart, requests
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of those that decoded, encoded and hashed."""
    names: list[str] = []

    def watch(module: Any, name: str) -> None:
        function = getattr(module, name)

        def watched(*arguments: Any) -> Any:
            names.append(threading.current_thread().name)
            return function(*arguments)

        monkeypatch.setattr(module, name, watched)

    for name in ("_decode", "encode_input", "request_hash"):
        watch(requests, name)
    watch(multipart, "_data_url")
    return names


def _form(model: str, content: bytes) -> dict[str, Any]:
    prediction = json.dumps({"model": model, "input": {}})
    return {"prediction": (None, prediction), "text": ("a.bin", content)}


@pytest.mark.parametrize("size", [100, 100_000])
async def test_json(
    client: httpx.AsyncClient, auth: Auth, echo: str, threads: list[str], size: int
) -> None:
    body = {"model": echo, "input": {"text": "x" * size}}
    headers = auth("ada") | {"Idempotency-Key": "a"}
    made = [await client.post("/v1/predictions", json=body, headers=headers) for _ in range(2)]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert len(threads) == 6
    assert {name.startswith("large") for name in threads} == {size > 1000}


@pytest.mark.parametrize("size", [100, 100_000])
async def test_files(
    client: httpx.AsyncClient, auth: Auth, echo: str, threads: list[str], size: int
) -> None:
    headers = auth("ada") | {"Idempotency-Key": "a"}
    form = _form(echo, b"x" * size)
    made = await client.post("/v1/predictions/multipart", files=form, headers=headers)
    assert made.status_code == 201, made.text
    assert len(threads) == 4
    assert {name.startswith("large") for name in threads} == {size > 1000}


async def test_a_file_of_many_slices_arrives_whole(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    content = bytes(range(256)) * 4000 + b"end"
    form = _form(echo, content)
    made = await client.post("/v1/predictions/multipart", files=form, headers=auth("ada"))
    url = made.json()["input"]["text"]
    assert url.startswith("data:application/octet-stream;base64,")
    assert b64decode(url.partition(",")[2]) == content


async def test_small_predictions_are_stored_while_large_ones_stand_still(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    app: FastAPI,
    settings: GatewaySettings,
    eventually: Callable[..., Any],
) -> None:
    """As behind a batch for which PostgreSQL needs its time: here it waits for a lock."""
    headers = auth("ada")

    async def create(size: int, key: str) -> httpx.Response:
        body = {"model": echo, "input": {"text": "x" * size}}
        mine = headers | {"Idempotency-Key": key}
        return await client.post("/v1/predictions", json=body, headers=mine)

    storing = app.state.services.predictions.storing.waited_for
    keys = ("a", "b")
    stored = [(await create(200_000, key)).json()["id"] for key in keys]
    with closing(psycopg2.connect(settings.database_url)) as connection:
        connection.cursor().execute("DELETE FROM predictions")  # And it is taken back.
        waiting = []
        for key in keys:
            waiting.append(asyncio.create_task(create(200_000, key)))
            await eventually(lambda: len(storing) == len(waiting))
        reply = await asyncio.wait_for(create(10, "d"), 10)
        assert reply.status_code == 201
        assert not any(task.done() for task in waiting)
        connection.rollback()
    assert [(await task).json()["id"] for task in waiting] == stored
