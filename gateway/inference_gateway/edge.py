"""The outermost layer of every request: its id, its size, its time, errors nobody expected, and
the headers that tell browsers and caches to be careful."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_gateway import metrics, problems
from inference_gateway.errors import PROBLEM_JSON, GatewayError, Unavailable, Unconfirmed
from inference_gateway.limits import limited, too_large

log = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
"""A request that takes longer until its response begins is worth a line."""
_ID = re.compile(rb"[\w.:-]{1,64}")

Headers = tuple[tuple[bytes, bytes], ...]
_ASSETS = "/static-offline-docs/"
"""Scripts and styles of the pages, the same for everybody: caches may keep them."""
_NO_SNIFF: Headers = ((b"x-content-type-options", b"nosniff"),)
_PRIVATE: Headers = ((b"cache-control", b"no-store"), *_NO_SNIFF)
"""Answers to one caller; errors too, which quote what they asked for."""
# The pages of the API docs begin with a script of their own, and ReDoc makes a worker.
_PAGE: Headers = (
    *_PRIVATE,
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; worker-src blob:; object-src 'none'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
)


class Edge:
    """Plain ASGI and one layer only: each costs every request.

    A request's id, the caller's `X-Request-Id` or one of ours, is in `scope["request_id"]`.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id, length = self._read_headers(scope)
        scope["request_id"] = request_id
        added = ((b"x-request-id", request_id), *_headers(scope["path"]))
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message.get("headers", ()), *added]
                _account(scope, message["status"], time.perf_counter() - began, request_id)
            await send(message)

        try:
            await self._app(scope, self._within_limit(receive, length), send_with_id)
        except ConnectionResetError:
            return
        except asyncio.CancelledError:  # The server stops, and has waited long enough.
            if has_begun:
                raise
            await _send_problem(send_with_id, _stopped(scope["method"]))
        except Exception as error:
            problem = _problem(error, scope, request_id)
            if has_begun:
                raise
            await _send_problem(send_with_id, problem)

    def _within_limit(self, receive: Receive, length: int | None) -> Receive:
        """Raises TooLarge."""
        if length is None:
            return limited(receive, self._max_body_bytes)
        if length > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        return receive

    def _read_headers(self, scope: Scope) -> tuple[bytes, int | None]:
        """The request's id, and its length: None if only counting will tell."""
        request_id, length = b"", 0
        for name, value in scope["headers"]:
            if name == b"content-length":
                # The server refuses what is no number, and a body that is longer than this.
                length = int(value)
            elif name == b"transfer-encoding":
                return request_id or self._new_id(), None
            elif name == b"x-request-id" and _ID.fullmatch(value):
                request_id = value
        return request_id or self._new_id(), length

    def _new_id(self) -> bytes:
        return f"{self._prefix}-{next(self._numbers)}".encode()


def _headers(path: str) -> Headers:
    if path.startswith("/v1/"):
        return _PRIVATE
    return _NO_SNIFF if path.startswith(_ASSETS) else _PAGE


def _problem(error: Exception, scope: Scope, request_id: bytes) -> GatewayError:
    if (problem := problems.known(error, scope["method"])) is not None:
        return problem
    log.error("unexpected error", exc_info=error, extra=_extra(scope, request_id))
    name = request_id.decode()
    return GatewayError(f"something went wrong here; the log has it under request id {name}")


def _stopped(method: str) -> GatewayError:
    if method in ("GET", "HEAD"):
        return Unavailable("the server stops: try again", headers=problems.RETRY_AFTER)
    return Unconfirmed(
        "the server stops, and did not see whether this was done: look, or send it again with "
        "the same Idempotency-Key"
    )


async def _send_problem(send: Send, error: GatewayError) -> None:
    body = error.problem()
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", b"%d" % len(body))]
    headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    # What is left of a refused body must not be read as the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _account(scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
    metrics.answered(scope["method"], status, seconds)
    if status < 400 and seconds < SLOW_SECONDS:
        return
    level = logging.WARNING if status >= 500 else logging.INFO
    extra = {**_extra(scope, request_id), "status": status, "seconds": round(seconds, 4)}
    log.log(level, "request", extra=extra)


def _extra(scope: Scope, request_id: bytes) -> dict[str, object]:
    return {
        "request_id": request_id.decode(),
        "method": scope["method"],
        "path": scope["path"],
        "client": (scope.get("client") or ("unknown",))[0],
    }
