"""HEAD, OPTIONS, and methods that a path does not have."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

Auth = Callable[..., dict[str, str]]


async def test_head_is_get_without_its_body(client: httpx.AsyncClient, auth: Auth) -> None:
    for path in ("/health/live", "/v1/models", "/v1/predictions", "/docs"):
        got = await client.get(path, headers=auth("ada"))
        head = await client.head(path, headers=auth("ada"))
        assert head.status_code == got.status_code == 200
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.content == b""


async def test_head_needs_what_get_needs(client: httpx.AsyncClient) -> None:
    head = await client.head("/v1/predictions")
    assert (head.status_code, head.content) == (401, b"")


def test_head_of_a_stream_ends_at_once(live_url: str, auth: Auth, echo: str) -> None:
    with httpx.Client(base_url=live_url, headers=auth("ada"), timeout=10) as live:
        body = {"model": echo, "input": {"text": "hi"}}
        made = live.post("/v1/predictions", json=body).json()
        head = live.head(f"/v1/predictions/{made['id']}/stream")
        assert head.headers["content-type"].startswith("text/event-stream")
        assert live.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/predictions", "GET, HEAD, POST, OPTIONS"),
        ("/v1/predictions/multipart", "POST, OPTIONS"),
        ("/v1/models/ada/echo", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/v1/predictions/x/cancel", "POST, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_hear_which_there_are(
    client: httpx.AsyncClient, path: str, allow: str
) -> None:
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, allow)
    for method in ("TRACE", "PROPFIND"):
        refused = await client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allow)
        assert refused.json()["status"] == 405


async def test_nothing_is_allowed_where_nothing_is(client: httpx.AsyncClient) -> None:
    assert (await client.options("/v1/nothing")).status_code == 404
