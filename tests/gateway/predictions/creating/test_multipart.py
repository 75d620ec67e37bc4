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


def _form(*parts: tuple[bytes, bytes]) -> tuple[bytes, dict[str, str]]:
    """Heads and contents, as no client would send them."""
    body = b"".join(b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return body + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def _part(name: bytes, *more: bytes) -> bytes:
    return b"\r\n".join([b'Content-Disposition: form-data; name="' + name + b'"', *more])


GOOD = json.dumps(PREDICTION).encode()
FILE_HEAD = b'Content-Disposition: form-data; name="text"; filename="a"\r\nContent-Type: '


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (
            [(_part(b"prediction"), b'{"model_id": "ada/echo", "input": {"text": "\xff"}}')],
            "prediction",
        ),
        ([(_part(b"prediction"), b'{"model_id": "ada/echo", "input": {"\xe4": 1}}')], "prediction"),
        ([(_part(b"prediction"), b'"\xff"')], "prediction"),
        (
            [
                (
                    _part(b"prediction"),
                    b'{"model_id": "ada/echo", "input": {"times": 1%s}}' % (b"0" * 30),
                )
            ],
            "input",
        ),
        ([(_part(b"prediction"), GOOD), (_part(b"prediction"), GOOD)], "prediction"),
        ([(_part(b"prediction"), GOOD), (_part(b"\xff"), b"x")], "\ufffd"),
        ([(_part(b"prediction"), GOOD), (FILE_HEAD + b'text/plain;a="b,c"', b"x")], "text"),
        (
            [
                (_part(b"prediction"), GOOD),
                (FILE_HEAD + b"text/plain\r\nContent-Transfer-Encoding: base64", b"aGk="),
            ],
            "text",
        ),
    ],
)
async def test_nothing_is_changed_silently(
    client: httpx.AsyncClient,
    auth: Auth,
    echo: str,
    parts: list[tuple[bytes, bytes]],
    field: str,
) -> None:
    body, head = _form(*parts)
    reply = await client.post("/v1/predictions/multipart", content=body, headers=auth("ada") | head)
    assert reply.status_code == 422, reply.text
    fields = [error["field"] for error in reply.json()["errors"]]
    assert fields[0].startswith(field), reply.text


async def test_a_form_in_another_charset_is_refused(
    client: httpx.AsyncClient, auth: Auth, echo: str
) -> None:
    body, _ = _form((_part(b"prediction"), GOOD))
    head = {"Content-Type": "multipart/form-data; charset=utf-16; boundary=x"}
    reply = await client.post("/v1/predictions/multipart", content=body, headers=auth("ada") | head)
    assert reply.status_code == 422


async def test_names_and_texts_are_utf8(client: httpx.AsyncClient, auth: Auth, echo: str) -> None:
    body, head = _form(
        (_part(b"prediction"), '{"model_id": "ada/echo", "input": {"text": "ä🦀"}}'.encode())
    )
    reply = await client.post("/v1/predictions/multipart", content=body, headers=auth("ada") | head)
    assert reply.json()["input"]["text"] == "ä🦀"
