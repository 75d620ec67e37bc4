"""The outermost middleware: request id, body size, duration, unexpected errors, and the security
headers for browsers and caches."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets

from starlette.types import ASGIApp, Receive, Scope, Send

from inference_gateway import changes
from inference_gateway.api import error_handlers
from inference_gateway.api.admission import Admission
from inference_gateway.errors import (
    PROBLEM_JSON,
    BadRequest,
    GatewayError,
    Unavailable,
    Unconfirmed,
)
from inference_gateway.http import methods, urls
from inference_gateway.http.addresses import Proxies, client_of
from inference_gateway.http.body_limit import (
    SMALL_BYTES,
    CountedBody,
    InFlight,
    largest_body,
    too_large,
)
from inference_gateway.http.response import ResponseSender, about

log = logging.getLogger(__name__)

_TWO = b"two"
"""Marks a request with two Authorization headers: programs differ in which one they use."""
_ID = re.compile(rb"[\w.:-]{1,64}")


class Middleware:
    """Plain ASGI in a single layer, as each layer costs time for every request.

    The request's id (the caller's `X-Request-Id` or a new one) is in `scope["request_id"]`.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        in_flight: InFlight,
        proxies: Proxies,
        admission: Admission,
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._admission = admission
        self._who_of = admission.who_of
        self._max_body_bytes = max_body_bytes
        self._in_flight = in_flight
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        changes.new_request()
        self._proxies.resolve(scope)
        request_id, length, host, authorization = self._read_headers(scope)
        scope["request_id"] = request_id
        answer = ResponseSender(scope, send, request_id, self._in_flight, self._who_of)
        body: CountedBody | None = None
        try:
            urls.check(scope, host)
            if not scope["path"].startswith(urls.PROBES):
                self._admit(authorization, client_of(scope))
            if length is None or length > SMALL_BYTES:
                receive = body = self._counted(scope, receive, length)
            await self._app(*methods.as_get(scope, receive, answer.send))
        except ConnectionResetError:
            return
        except asyncio.CancelledError:  # The server stops; its grace is over.
            if answer.has_begun:
                raise
            await _send_problem(answer.send, _stopped(scope["method"]))
        except Exception as error:
            problem = answer.refused or _problem(error, scope, request_id)
            if answer.has_begun:
                raise
            # The traceback's frames reference the request's objects, some in cycles: without this
            # only the garbage collector would free them.
            problem.__traceback__ = error.__traceback__ = None
            await _send_problem(answer.send, problem)
        finally:
            answer.close()
            if body is not None:
                body.close()

    def _admit(self, authorization: bytes | None, address: str) -> None:
        """Raises BadRequest, TooManyRequests."""
        if authorization is _TWO:
            raise BadRequest("there are two Authorization headers: send one")
        self._admission.enter(authorization, address)

    def _counted(self, scope: Scope, receive: Receive, length: int | None) -> CountedBody:
        """Raises TooLarge."""
        most = largest_body(scope["path"], self._max_body_bytes)
        if length is not None and length > most:
            raise too_large(most)
        return CountedBody(scope, receive, most, self._in_flight, self._who_of)

    def _read_headers(self, scope: Scope) -> tuple[bytes, int | None, bytes, bytes | None]:
        """The request's id, its Content-Length (None if it has none), Host and Authorization."""
        request_id, host = b"", b""
        length: int | None = 0
        authorization: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = b"%b,%b" % (host, value) if host else value  # Two make an invalid one.
            elif name == b"content-length":
                # The server itself refuses an invalid number, a longer body, and a request that
                # also has Transfer-Encoding.
                length = int(value)
            elif name == b"transfer-encoding":
                length = None
            elif name == b"authorization":
                authorization = value if authorization is None else _TWO
            elif name == b"x-request-id" and _ID.fullmatch(value):
                request_id = value
        return request_id or self._new_id(), length, host, authorization

    def _new_id(self) -> bytes:
        return f"{self._prefix}-{next(self._numbers)}".encode()


def _problem(error: Exception, scope: Scope, request_id: bytes) -> GatewayError:
    if (problem := error_handlers.known(error)) is not None:
        return problem
    log.error("unexpected error", exc_info=error, extra=about(scope, request_id))
    name = request_id.decode()
    return GatewayError(f"something went wrong here; the log has it under request id {name}")


def _stopped(method: str) -> GatewayError:
    if method in ("GET", "HEAD"):
        return Unavailable("the server stops: try again", headers=error_handlers.RETRY_AFTER)
    return Unconfirmed(
        "the server stops, and did not see whether this was done: look, or send it again with "
        "the same Idempotency-Key"
    )


async def _send_problem(send: Send, error: GatewayError) -> None:
    body = error.problem()
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", b"%d" % len(body))]
    headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    # The rest of a refused body must not be parsed as the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
