"""Whatever stands in a URL, a header or a body: no library's error becomes a 500."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from fastapi import FastAPI

from inference_gateway.api.app import front

NASTY = (
    *("%00", "a%00b", "%FF", "%C3%28", "%ED%A0%80", "%F4%90%80%80", "%", "%zz", "%2F..%2F", "+"),
    *("1e999", "-1", "9" * 400, "9" * 5000, "NaN", "Infinity", "0x10", "%D9%A1", "true", "null"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00%2B23:59"),
    *("99999999999999999999", "-62135596801", "253402300800", "1e20", "[", "[::1", "a:b:c", "%20"),
    *("AAAA", "b" * 23, "====", "_" * 23, "bwAAAAAAAAAAAAAAAAAAAAAA", "%F0%9F%92%A9", "x" * 3000),
    "00000000-0000-0000-0000-000000000000",
)
HEADERS = (
    *(b"", b"[", b"[::1", b"a b", b"\xff", b"a/b", b"a:99999999", b"\xed\xa0\x80", b"x" * 3000),
    *(
        b"wait=999999999999",
        b"wait=\xb2",
        b"9" * 400,
        b"1-" + b"9" * 400,
        b"999999999h",
        b"*/*;q=x",
    ),
    *(b"Bearer", b"Bearer \xff", b"Bearer inf_\xff", b"Token a.b.c", b"Bearer inf_" + b"x" * 3000),
)
TEXTS = ("\0", "\ud800", "a\ud800b", "", " ", "x" * 3000, "\u202e", "%00", "../..", "\x7f", "🦀")
VALUES: tuple[object, ...] = (
    *(*TEXTS, None, True, 0, -1, 10**400, 1e308),
    *([], {}, [[]], {"\ud800": 1}, {"\0": "\0"}),
)


async def _status(
    app: FastAPI,
    method: str,
    path: str,
    query: str = "",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
) -> int:
    """Past any client, which would correct what is wrong."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "root_path": "",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"gateway"), (b"content-length", b"%d" % len(body)), *headers],
        "server": ("gateway", 80),
        "client": ("127.0.0.1", 1),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await front(app)(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


Operation = tuple[str, str, dict[str, Any]]


def _operations(app: FastAPI) -> Iterator[Operation]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def _filled(path: str, name: str, value: str) -> str:
    filled = path.replace(f"{{{name}}}", value)
    for other in ("owner", "name"):
        filled = filled.replace(f"{{{other}}}", "ada")
    return filled.replace("{", "").replace("}", "")


@pytest.fixture
async def started(app: FastAPI, make_model: Any) -> Any:
    make_model("ada", "ada")
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def known(auth: Callable[..., dict[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"authorization", auth("ada")["Authorization"].encode()),)


async def test_in_a_path_or_a_query(started: FastAPI, known: Any) -> None:
    wrong = []
    for method, path, operation in _operations(started):
        names = [p for p in operation.get("parameters", ()) if p["in"] in ("path", "query")]
        for parameter in names:
            for value in NASTY:
                name = parameter["name"]
                in_path = parameter["in"] == "path"
                url = _filled(path, name, value if in_path else "x")
                query = "" if in_path else f"{name}={value}"
                if await _status(started, method, url, query, known) >= 500:
                    wrong.append((method, url[:99], query[:99]))
    assert not wrong


async def test_in_a_header(started: FastAPI, known: Any) -> None:
    wrong = []
    names = [b"host", b"accept", b"last-event-id", b"prefer", b"cancel-after", b"x-request-id"]
    names += [b"idempotency-key", b"authorization", b"content-type", b"x-forwarded-for"]
    body = orjson.dumps({"model": "ada/ada", "input": {"prompt": "x"}})
    for method, path, _ in _operations(started):
        for name in names:
            for value in HEADERS:
                headers = tuple(pair for pair in known if pair[0] != name)
                url = _filled(path, "prediction_id", "x")
                given = (*headers, (name, value))
                if await _status(started, method, url, "", given, body) >= 500:
                    wrong.append((method, url, name, value[:50]))
    assert not wrong


async def test_two_hosts_are_refused(started: FastAPI) -> None:
    """One would be checked, and the links of the answer might have the other."""
    assert await _status(started, "get", "/health/live", "") == 200
    assert await _status(started, "get", "/health/live", "", ((b"host", b"other"),)) == 400


async def test_in_a_body(started: FastAPI, known: Any) -> None:
    wrong = []
    bodies: dict[str, dict[str, Any]] = {
        "/v1/auth/register": {"username": "u", "email": "a@b", "password": "password123"},
        "/v1/auth/tokens": {"name": "t"},
        "/v1/models": {"name": "m", "model_type": "custom", "model_path": "a", "version": "1"},
        "/v1/predictions": {"model": "ada/ada", "version": "1", "input": {}, "webhook": "a"},
    }
    for path, body in bodies.items():
        for field in (*body, "\ud800", "\0"):
            for value in VALUES:
                text = _json({**body, field: value})
                given = (*known, (b"content-type", b"application/json"))
                if await _status(started, "post", path, "", given, text) >= 500:
                    wrong.append((path, field, repr(value)[:50]))
    for text in (b"", b"{", b"[" * 60_000, b"\xff", b'"\\ud800"', b"1e999", b"9" * 60_000, b"null"):
        wrong += [
            (path, "", repr(text[:50]))
            for path in bodies
            if await _status(started, "post", path, "", known, text) >= 500
        ]
    assert not wrong


async def test_in_a_form(started: FastAPI) -> None:
    wrong = []
    kind = ((b"content-type", b"application/x-www-form-urlencoded"),)
    for value in NASTY:
        wrong += [
            form[:50]
            for form in (f"username={value}&password=x", f"username=ada&password={value}")
            if await _status(started, "post", "/v1/auth/token", "", kind, form.encode()) >= 500
        ]
    assert not wrong


def _json(value: Any) -> bytes:
    """With escapes for what no JSON library of a server would write."""
    return json.dumps(value).encode()


async def test_of_very_many_mistakes_the_first_are_named(started: FastAPI, client: Any) -> None:
    body = {f"unknown{number}": "x" * 20 for number in range(1500)}
    reply = await client.post("/v1/auth/register", json=body)
    assert reply.status_code == 422
    assert len(reply.json()["errors"]) == 20
    assert reply.json()["error_count"] == 1503
    assert len(reply.content) < 5000


async def test_a_body_of_an_account_is_small(started: FastAPI, client: Any) -> None:
    reply = await client.post("/v1/auth/register", content=b"{" + b" " * 100_000)
    assert reply.status_code == 413
