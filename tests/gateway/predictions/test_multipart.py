from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Auth = Callable[..., dict[str, str]]
PREDICTION = {"model_id": "ada/echo", "input": {"times": 2}}
FILE = ("hi.png", b"\x89PNG", "image/png")


async def _send(client: httpx.AsyncClient, headers: dict[str, str], **parts: Any) -> httpx.Response:
    return await client.post("/v1/predictions/multipart", files=parts, headers=headers)


async def test_a_file_becomes_an_input(client: httpx.AsyncClient, auth: Auth, echo: str) -> None:
    reply = await _send(client, auth("ada"), prediction=(None, json.dumps(PREDICTION)), text=FILE)
    assert reply.status_code == 201, reply.text
    assert reply.json()["input"] == {"times": 2, "text": "data:image/png;base64,iVBORw=="}


async def test_the_prediction_may_be_a_file_itself(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    content = json.dumps(PREDICTION | {"input": {"text": "hi"}})
    part = ("p.json", content, "application/json")
    assert (await _send(client, auth("ada"), prediction=part)).json()["input"]["text"] == "hi"


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"text": FILE}, "prediction"),
        ({"prediction": (None, "nonsense")}, "prediction"),
        ({"prediction": (None, "[]")}, "prediction"),
        ({"prediction": (None, json.dumps(PREDICTION)), "times": FILE}, "times"),
        ({"prediction": (None, json.dumps(PREDICTION)), "text": (None, "hi")}, "text"),
        ({"prediction": (None, json.dumps(PREDICTION)), "txet": FILE}, "input.text"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, auth: Auth, echo: str, parts: dict[str, Any], field: str
) -> None:
    reply = await _send(client, auth("ada"), **parts)
    assert reply.status_code == 422
    assert field in [error["field"] for error in reply.json()["errors"]]


async def test_a_body_that_is_no_form(client: httpx.AsyncClient, auth: Auth, echo: str) -> None:
    reply = await client.post("/v1/predictions/multipart", json=PREDICTION, headers=auth("ada"))
    assert reply.status_code == 422
    assert "multipart/form-data" in reply.json()["detail"]
