"""HEAD (GET without its body) and OPTIONS (lists the methods) for all routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed(app: Starlette, scope: Scope) -> str:
    """The `Allow` header of a path."""
    found = []
    for method in _METHODS:
        asked = {**scope, "method": method}
        if any(route.matches(asked)[0] is Match.FULL for route in app.routes):
            found += [method, "HEAD"] if method == "GET" else [method]
    return ", ".join([*found, "OPTIONS"])


def as_get(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """Turn HEAD into GET without a response body; other requests are unchanged."""
    if scope["method"] != "HEAD":
        return scope, receive, send
    return {**scope, "method": "GET"}, receive, _without_body(send)


def _without_body(send: Send) -> Send:
    """A `send` that drops the body. Raises ConnectionResetError after the head of a stream, so that
    it ends."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.start":
            return
        await send(message)
        await send({"type": "http.response.body", "body": b""})
        if all(name.lower() != b"content-length" for name, _ in message["headers"]):
            raise ConnectionResetError("HEAD of a stream has no body")

    return send_head
