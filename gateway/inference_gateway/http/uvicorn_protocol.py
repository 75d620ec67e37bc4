"""HTTP/1.1 connections with limits, which write a response's head and body together.

uvicorn limits neither the size of a request's head nor the time for head, body or reading the
response. It also writes twice for each response: two system calls, and two wake-ups of the client,
a sixth of the event loop's time for a prediction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Self, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from inference_gateway.errors import (
    PROBLEM_JSON,
    BadRequest,
    GatewayError,
    LargeHeaders,
    LongUrl,
    SlowRequest,
)
from inference_gateway.http.connections import Connections, Limits, Phase
from inference_gateway.http.response import PRIVATE
from inference_gateway.http.urls import PROBES

_LINGER_SECONDS = 2.0
"""Seconds before closing after a response that was sent before the request's end. Closing at once
would lose it: further bytes of the request make the kernel reset the connection."""
_VERSIONS = ("1.1", "1.0")
_HOLD_BYTES = 65_536
"""More bytes are passed on at once: the transport needs them for its flow control."""


class _Gathering:
    """A transport that buffers writes until the event loop's next iteration."""

    __slots__ = ("_closed", "_held", "_loop", "_size", "_transport", "lingers")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0
        self._closed = False
        self.lingers = False
        """Whether more bytes of a request may come, which are discarded."""

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _HOLD_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        if not self.lingers:
            self._transport.close()
        elif not self._closed and not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(_LINGER_SECONDS, self._transport.abort)
        self._closed = True

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._size = 0
            self._transport.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _parser(callbacks: object) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(callbacks)
    # As in uvicorn: a client may pipeline requests behind one that closes the connection.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port; an IPv6 address has further parts."""
    return (name[0], name[1]) if isinstance(name, tuple) else None


class _Stop(Exception):
    """Raised in a parser's callback to stop the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """Arguments other than `connections` and `limits` are uvicorn's.

    A silent connection is little more than its transport: the parser is created with the first
    bytes, objects for requests with the first complete head. So thousands of new connections do
    not delay others.
    """

    def __init__(self, connections: Connections, limits: Limits, **made: Any) -> None:
        super().__init__(**made)
        self.scheme = "http"
        self._pool = connections
        self._limits = limits
        self._in_head = False
        self._head_bytes = 0
        """Bytes so far of a head that arrives in several pieces."""
        self._overhead = 0
        """Bytes of a chunked body that are framing, not content."""
        self._stopped = False
        """No more input is processed."""

    def another(self) -> Self:
        """A copy for the next connection. Most of `__init__` computes values that are the same for
        all connections."""
        one = type(self).__new__(type(self))
        one.__dict__.update(self.__dict__)
        one.parser = None  # type: ignore[assignment]
        one.pipeline = deque()
        return one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Replaces uvicorn's, which creates objects that only a request needs.
        self.connections.add(self)
        self._gathering = _Gathering(transport, self.loop)
        self.transport = cast("asyncio.Transport", self._gathering)
        if not self._pool.opened(self):
            self._stopped = True
            transport.abort()

    def _first_request(self) -> None:
        self.flow = FlowControl(self.transport)
        self.client = _address(self.transport.get_extra_info("peername"))
        self.server = _address(self.transport.get_extra_info("sockname"))
        self.scope["client"], self.scope["server"] = self.client, self.server

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.closed(self)
        if self.cycle is None or self.cycle.response_complete:
            super().connection_lost(exc)
        else:  # The waiting application must be woken.
            self.cycle.disconnected = True
            self._pool.callbacks.run(partial(super().connection_lost, exc))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the transport open and close it later: thousands may disconnect at once."""
        self._gathering.lingers = False
        self._pool.closing.run(self.transport.close)
        return True

    def data_received(self, data: bytes) -> None:
        if self.parser is None:
            self.parser = _parser(self)
        most = self._limits.max_header_bytes
        # In slices: the parser cannot be stopped within one.
        for start in range(0, len(data), most):
            if self._stopped or self._gathering.is_closing():
                return
            self._feed(data if len(data) <= most else data[start : start + most])

    def _feed(self, data: bytes) -> None:
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserCallbackError:
            if not self._stopped:
                self._refuse(BadRequest("the URL of the request cannot be read"))
            return
        except httptools.HttpParserError as error:
            if not self._stopped:
                self._refuse(BadRequest(f"this is no HTTP request: {error}"))
            return
        if self._in_head:
            self._head_bytes += len(data)
            self._pool.leave(self, Phase.IDLE)
            self._pool.enter(self, Phase.HEAD)
            if self._head_bytes > 2 * self._limits.max_header_bytes:
                self._refuse(self._large_headers())
        elif self.cycle is not None and self.cycle.more_body:
            self._gathering.lingers = True
            self._pool.enter(self, Phase.BODY)
            if self._overhead > self._limits.max_header_bytes:
                self._refuse(BadRequest("the body comes in chunks that are too small"))

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # Otherwise it is a trailer, which is ignored.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._check_head()
        if self.flow is None:
            self._first_request()
        if (version := self.parser.get_http_version()) not in _VERSIONS:
            self._refuse(BadRequest(f"HTTP/{version} is not spoken here: HTTP/1.1 is"))
            raise _Stop
        self._in_head = False
        self._pool.leave(self, Phase.IDLE)
        if self._head_bytes:
            self._pool.leave(self, Phase.HEAD)
            self._head_bytes = 0
        self._overhead = 0
        if len(self.pipeline) >= self._limits.max_pipelined:
            # The limit of pipelined requests: the rest is dropped, the client may send it again.
            self.cycle.keep_alive = False
            self._stopped = True
            raise _Stop
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        is_probe = cycle.scope["path"].startswith(PROBES)
        self._pool.callbacks.run(partial(self._begin, cycle, app), first=is_probe)

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._overhead -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pool.leave(self, Phase.BODY)
        self._gathering.lingers = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # As in uvicorn, without its timer: one timer serves all connections.
        self.server_state.total_requests += 1
        self._pool.leave(self, Phase.BODY)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._pool.enter(self, Phase.IDLE)

    def pause_writing(self) -> None:
        self._pool.enter(self, Phase.WRITE)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._pool.leave(self, Phase.WRITE)
        super().resume_writing()

    def expired(self, phase: Phase) -> None:
        if phase is Phase.IDLE:
            self._stopped = True
            self.transport.close()
        elif phase is Phase.WRITE:
            self.transport.abort()
        elif phase is Phase.BODY and self.flow.read_paused:
            self._pool.enter(self, phase)  # The server itself paused reading.
        else:
            seconds = self._limits.seconds[phase]
            part = "headers have" if phase is Phase.HEAD else "body has"
            self._refuse(SlowRequest(f"the request's {part} not come within {seconds:g} seconds"))

    def _check_head(self) -> None:
        limits = self._limits
        if len(self.url) > limits.max_url_bytes:
            self._refuse(LongUrl(f"the URL is longer than {limits.max_url_bytes} bytes"))
        elif len(self.headers) > limits.max_headers or (
            self._head_bytes
            and len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            > limits.max_header_bytes
        ):
            self._refuse(self._large_headers())
        else:
            return
        raise _Stop

    def _large_headers(self) -> LargeHeaders:
        limits = self._limits
        return LargeHeaders(
            f"at most {limits.max_headers} headers of together {limits.max_header_bytes} bytes "
            "are taken"
        )

    def _refuse(self, problem: GatewayError) -> None:
        """Answer instead of the application, and close."""
        self._stopped = self._gathering.lingers = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # The head of a pipelined request.
                newest = self.pipeline[0][0] if self.pipeline else cycle
                newest.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        body = problem.problem()
        head = STATUS_LINE.get(problem.status, b"HTTP/1.1 400 \r\n")
        headers = (
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *PRIVATE,
        )
        head += b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"
        self.transport.write(head + body)
        self.transport.close()
