"""Responses: common headers, limits of size and time, the log line of a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from starlette.types import Message, Scope, Send

from inference_gateway.errors import GatewayError
from inference_gateway.http import metrics
from inference_gateway.http.addresses import client_of
from inference_gateway.http.body_limit import SMALL_BYTES, InFlight, WhoOf

log = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
"""A request that takes longer until its response begins is logged."""
_SLICE_BYTES = 65_536
"""A large response is written in pieces of this size, each after the client has read the last."""
_WRITE_SECONDS = 30
_SLOWEST_BYTES_PER_SECOND = 50_000
"""The time to read a large response: a fixed part, plus its size at this rate."""

Headers = tuple[tuple[bytes, bytes], ...]
_ASSETS = "/static-offline-docs/"
"""Scripts and styles of the docs pages: public, caches may keep them."""
_NO_SNIFF: Headers = ((b"x-content-type-options", b"nosniff"),)
PRIVATE: Headers = ((b"cache-control", b"no-store"), *_NO_SNIFF)
"""Headers of responses for one caller; errors too, as they quote the request."""
# The API docs have an inline script, and ReDoc starts a worker.
_PAGE: Headers = (
    *PRIVATE,
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; worker-src blob:; object-src 'none'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
)


class ResponseSender:
    """The `send` of one request."""

    __slots__ = (
        "_began",
        "_in_flight",
        "_request_id",
        "_scope",
        "_send",
        "_taken",
        "_who",
        "_who_of",
        "has_begun",
        "refused",
    )

    def __init__(
        self, scope: Scope, send: Send, request_id: bytes, in_flight: InFlight, who_of: WhoOf
    ) -> None:
        self._scope = scope
        self._send = send
        self._in_flight = in_flight
        self._who_of = who_of
        self._who = ""
        self._taken = 0
        self._began = time.perf_counter()
        self._request_id = request_id
        self.has_begun = False
        self.refused: GatewayError | None = None
        """The error that kept the response from starting: the framework swallows exceptions of
        `send`."""

    async def send(self, message: Message) -> None:
        """Raises TooManyRequests, Unavailable at the start of a response, as its size is known."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if size := _large_size(headers):
                # Only a GET can be refused here: a POST has been carried out.
                self._who = self._who_of(self._scope)
                try:
                    self._in_flight.take(self._who, size, refuse=self._scope["method"] == "GET")
                except GatewayError as error:
                    self.refused = error
                    raise
                self._taken = size
            self.has_begun = True
            message["headers"] = [
                *headers,
                (b"x-request-id", self._request_id),
                *_headers(self._scope["path"]),
            ]
            seconds = time.perf_counter() - self._began
            _account(self._scope, message["status"], seconds, self._request_id)
        elif len(message.get("body", b"")) > SMALL_BYTES:
            await self._send_large(message)
            return
        await self._send(message)

    async def _send_large(self, message: Message) -> None:
        """Raises ConnectionResetError; the reader of a stream must reconnect."""
        size = 0 if self._taken else len(message["body"])
        who = self._who or self._who_of(self._scope)
        try:
            self._in_flight.take(who, size)
        except GatewayError as error:
            raise ConnectionResetError(error.detail) from None
        try:
            await _send_large(message, self._send)
        finally:
            self._in_flight.give(who, size)

    def close(self) -> None:
        if self._taken:
            self._in_flight.give(self._who, self._taken)


async def send_pieces(pieces: Iterable[bytes], send: Send) -> None:
    """Send the body of a response; small adjacent pieces are joined."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if held and size + len(piece) > SMALL_BYTES:
            await send({"type": "http.response.body", "body": b"".join(held), "more_body": True})
            held, size = [], 0
        held.append(piece)
        size += len(piece)
    await send({"type": "http.response.body", "body": b"".join(held)})


def _large_size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The Content-Length of a large response, else 0."""
    for name, value in headers:
        if name == b"content-length" and (size := int(value)) > SMALL_BYTES:
            return size
    return 0


async def _send_large(message: Message, send: Send) -> None:
    """Send a large body in pieces, each after the client has read the last, so that it is not
    copied as a whole.

    Raises:
        ConnectionResetError: if the client does not read.
    """
    content, more = memoryview(message["body"]), message.get("more_body", False)
    try:
        async with asyncio.timeout(_WRITE_SECONDS + len(content) / _SLOWEST_BYTES_PER_SECOND):
            for start in range(0, len(content), _SLICE_BYTES):
                piece = bytes(content[start : start + _SLICE_BYTES])
                has_more = more or start + _SLICE_BYTES < len(content)
                await send({"type": message["type"], "body": piece, "more_body": has_more})
    except TimeoutError:
        raise ConnectionResetError("the client does not read its answer") from None


def _headers(path: str) -> Headers:
    if path.startswith("/v1/"):
        return PRIVATE
    return _NO_SNIFF if path.startswith(_ASSETS) else _PAGE


def _account(scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
    metrics.answered(scope["method"], status, seconds)
    if status < 400 and seconds < SLOW_SECONDS:
        return
    level = logging.WARNING if status >= 500 else logging.INFO
    extra = {**about(scope, request_id), "status": status, "seconds": round(seconds, 4)}
    log.log(level, "request", extra=extra)


def about(scope: Scope, request_id: bytes) -> dict[str, object]:
    return {
        "request_id": request_id.decode(),
        "method": scope["method"],
        "path": scope["path"],
        "client": client_of(scope),
    }
