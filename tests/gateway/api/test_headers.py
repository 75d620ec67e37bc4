"""What answers tell browsers and caches."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Headers = Callable[..., dict[str, str]]
PRIVATE = [
    ("GET", "/v1/account"),
    ("GET", "/v1/predictions"),
    ("POST", "/v1/predictions"),
    ("POST", "/v1/predictions/multipart"),
    ("GET", "/v1/predictions/nothing"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/ada/nothing"),
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/token"),
    ("PUT", "/v1/auth/token"),
    ("GET", "/v1/webhooks/default/secret"),
    ("GET", "/v1/nothing"),
]
PAGES = ["/", "/docs", "/redoc", "/openapi.json", "/health", "/metrics", "/nothing"]


@pytest.mark.parametrize("as_ada", [True, False])
@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_nothing_private_is_kept_by_a_cache(
    client: httpx.AsyncClient, auth: Headers, method: str, path: str, as_ada: bool
) -> None:
    answer = await client.request(method, path, headers=auth("ada") if as_ada else {})
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/predictions", content=b" " * 20_000_000)
    assert refused.status_code == 413
    assert refused.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
async def test_pages_run_and_load_nothing_of_others(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


async def test_scripts_of_the_pages_may_be_kept(client: httpx.AsyncClient) -> None:
    asset = await client.get("/static-offline-docs/swagger-ui-bundle.js")
    assert asset.status_code == 200
    assert "cache-control" not in asset.headers
    assert asset.headers["x-content-type-options"] == "nosniff"


async def test_an_error_nobody_expected(client: httpx.AsyncClient, app: Any, auth: Headers) -> None:
    app.state.services.authenticator.authenticate = None
    answer = await client.get("/v1/account", headers=auth("ada"))
    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_who_speaks_http_1_1_says_to_whom(live_url: str, head: bytes, status: int) -> None:
    where = httpx.URL(live_url)
    with socket.create_connection((where.host, where.port or 0), timeout=10) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"there is no Host header" in answer) is (status == 400)
