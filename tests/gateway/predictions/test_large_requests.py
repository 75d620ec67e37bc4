"""What is done with the whole of a large request is done on a thread, one at a time."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inference_gateway.predictions import multipart, requests

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
