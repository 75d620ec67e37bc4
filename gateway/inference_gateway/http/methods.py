"""Methods beside those that routes name: HEAD is GET without its body, OPTIONS tells of them."""

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
    """Of HEAD the same request as GET; of all else what was given."""
    if scope["method"] != "HEAD":
        return scope, receive, send
    return {**scope, "method": "GET"}, receive, _without_body(send)


def _without_body(send: Send) -> Send:
    """Raises ConnectionResetError once the head is sent of an answer without a length: a stream."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.start":
            return
        await send(message)
        await send({"type": "http.response.body", "body": b""})
        if all(name.lower() != b"content-length" for name, _ in message["headers"]):
            raise ConnectionResetError("nobody reads the stream")

    return send_head
