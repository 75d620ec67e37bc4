"""Every error is a problem document that says what to do and gives nothing away."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg2
import pytest
import redis
from fastapi import FastAPI, Response
from sqlalchemy.exc import OperationalError

from inference_gateway.errors import GatewayError
from inference_gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [("GET", "/nothing", 404, "Not Found"), ("DELETE", "/health", 405, "Method Not Allowed")],
)
async def test_what_the_framework_refuses(
    client: httpx.AsyncClient, method: str, path: str, status: int, title: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"], problem["type"]) == (status, title, "about:blank")
    assert path in problem["detail"]


async def test_json_that_does_not_parse(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/v1/auth/register", content=b"{", headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["body"]


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000


@pytest.mark.parametrize("path", ["/v1/auth/register", "/v1/auth/token"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large(
    client: httpx.AsyncClient, app: FastAPI, path: str, declared: bool
) -> None:
    form = "application/x-www-form-urlencoded" if path.endswith("token") else "application/json"
    content = b"x" * 100_000 if declared else chunks()
    answer = await client.post(path, content=content, headers={"content-type": form})
    assert answer.status_code == 413
    assert "larger than 50000 bytes" in answer.json()["detail"]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    settings.max_body_bytes = 50_000
    return settings


async def test_a_request_has_an_id(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get("/")).headers["X-Request-Id"] for _ in range(2)]
    assert first != second
    given = await client.get("/", headers={"X-Request-Id": "from-the-ingress"})
    assert given.headers["X-Request-Id"] == "from-the-ingress"
    forged = await client.get("/", headers={"X-Request-Id": 'a"b' * 100})
    assert len(forged.headers["X-Request-Id"]) < 64


async def raise_in(app: FastAPI, error: Exception) -> httpx.Response:
    async def boom() -> None:
        raise error

    app.add_api_route("/boom", boom)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gateway"
    ) as client:
        return await client.get("/boom")


async def test_an_unexpected_error_is_in_the_log_only(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raise_in(app, RuntimeError("a secret of the inside"))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    request_id = answer.headers["X-Request-Id"]
    assert request_id in answer.json()["detail"]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.__dict__["request_id"] == request_id
    assert "a secret of the inside" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, psycopg2.OperationalError("host db.internal is away")),
        psycopg2.OperationalError("host db.internal is away"),
        redis.exceptions.ConnectionError("host redis.internal is away"),
    ],
)
async def test_a_server_that_is_away(app: FastAPI, error: Exception) -> None:
    answer = await raise_in(app, error)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "nothing was stored" in answer.json()["detail"]
    assert "internal" not in answer.text


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What goes goes by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/auth/register", 413),
        ("GET", "/v1/predictions", 401),
        ("GET", "/nothing", 404),
    ],
)
async def test_an_error_goes_with_its_request(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    """It holds the frames that it came through, and they what the request held."""
    seen: list[weakref.ref[GatewayError]] = []
    original = GatewayError.problem

    def problem(self: GatewayError) -> bytes:
        seen.append(weakref.ref(self))
        return original(self)

    monkeypatch.setattr(GatewayError, "problem", problem)
    content = b"x" * 100_000 if method == "POST" else b""
    assert (await client.request(method, path, content=content)).status_code == status
    assert [error() for error in seen] == [None]


@pytest.mark.usefixtures("no_collector")
async def test_a_large_answer_that_is_refused_goes_with_its_request(
    client: httpx.AsyncClient, app: FastAPI, settings: GatewaySettings
) -> None:
    content = bytes(settings.max_bytes_in_flight + 1)

    async def large() -> Response:
        return Response(content)

    app.add_api_route("/large", large)
    held = sys.getrefcount(content)
    assert (await client.get("/large")).status_code == 503
    assert sys.getrefcount(content) == held
