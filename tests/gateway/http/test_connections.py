"""What one connection may cost: bytes, headers, time. A small app behind the real server."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from threading import Thread
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from inference_gateway.__main__ import protocol
from inference_gateway.http.connections import Connections, Phase
from inference_gateway.http.listeners import AcceptingServer, listen
from inference_gateway.settings import GatewaySettings

LIMITS = {
    "max_header_bytes": 2000,
    "max_headers": 20,
    "max_url_bytes": 300,
    "header_seconds": 0.2,
    "body_seconds": 0.2,
    "write_seconds": 0.2,
    "max_connections": 10,
}
SETTINGS: dict[str, Any] = {
    "_env_file": None,
    "database_url": "postgresql://nowhere",
    "secret_key": "a-secret-of-the-tests-with-more-than-32-bytes",
}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class App:
    """Answers with the headers and the body's size; at `/endless` it never stops."""

    def __init__(self) -> None:
        self.ended = 0
        self.begun: list[str] = []
        self.in_a_turn: Counter[int] = Counter()
        """How many began in each turn of the loop."""
        self._turn = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count(scope["path"])
        if scope["path"] == "/blocking":
            time.sleep(1)  # noqa: ASYNC251 - meanwhile others come
        size, message = 0, await receive()
        while message["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                break
            message = await receive()
        try:
            await self._answer(scope, send, size)
        finally:
            self.ended += 1

    def _count(self, path: str) -> None:
        self.begun.append(path)
        if not self._turn:
            self._next_turn()
        self.in_a_turn[self._turn] += 1

    def _next_turn(self) -> None:
        self._turn += 1
        if self._turn < 1000:
            asyncio.get_running_loop().call_soon(self._next_turn)

    async def _answer(self, scope: Scope, send: Send, size: int) -> None:
        headers = [name.decode() for name, _ in scope["headers"]]
        body = json.dumps({"headers": headers, "size": size}).encode()
        fixed = [] if scope["path"] == "/endless" else [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fixed})
        async with asyncio.timeout(10):
            while scope["path"] == "/endless":
                await send({"type": "http.response.body", "body": b"x" * 9999, "more_body": True})
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": body})


Connect = Callable[[], socket.socket]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def limits() -> dict[str, Any]:
    """Beside the usual ones."""
    return {}


@pytest.fixture
def connect(app: App, limits: dict[str, Any]) -> Iterator[Connect]:
    settings = GatewaySettings(**{**SETTINGS, **LIMITS, **limits})
    config = uvicorn.Config(
        app, loop="uvloop", http=protocol(settings), ws="none", lifespan="off", log_config=None
    )
    server = AcceptingServer(config)
    (listener, *others) = listen("localhost", 0)
    for other in others:
        other.close()
    listener.listen()
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with ExitStack() as opened:

        def open_one() -> socket.socket:
            found = socket.create_connection(listener.getsockname(), timeout=10)
            return opened.enter_context(closing(found))

        yield open_one
    server.should_exit = True
    thread.join(10)
    listener.close()


def _all(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    content = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65_536):
            content += piece
    return content


def _send(client: socket.socket, content: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # It has heard enough.
        client.sendall(content)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 300_000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 2500 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 21 + b"\r\n", 431),
        (b"GET /" + b"x" * 301 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 300_000, 431),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9000, 400),
        (b"GET / HTTP/1.1\r\nHost:", 408),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", 408),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 408),
    ],
    ids=[
        *("endless", "large", "many", "url", "endless-url", "nonsense"),
        *("tls", "http/0.9", "http/2", "http/2-preface", "connect", "tiny-chunks"),
        *("slow-head", "slow-body", "slow-chunks"),
    ],
)
def test_a_request_without_bounds_is_refused(connect: Connect, head: bytes, status: int) -> None:
    client = connect()
    _send(client, head)
    answer = _all(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    for header in (b"application/problem+json", b"cache-control: no-store", b"nosniff"):
        assert header in answer


def test_a_head_that_comes_in_pieces_is_counted_as_a_whole(connect: Connect) -> None:
    client = connect()
    for piece in [b"GET / HTTP/1.1\r\n", *[b"A: %s\r\n" % (b"x" * 900)] * 3, b"\r\n"]:
        client.sendall(piece)
    assert _all(client).startswith(b"HTTP/1.1 431 ")


def test_what_is_within_bounds_is_answered(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST / HTTP/1.1\r\nA: %s\r\nContent-Length: 9000\r\n\r\n" % (b"x" * 1800))
    client.sendall(b"x" * 9000)
    assert b'"size": 9000' in client.recv(65_536)


def test_a_trailer_is_no_header(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    client.sendall(b"0\r\nAuthorization: me\r\n\r\n")
    answer = client.recv(65_536)
    assert b'"size": 1' in answer
    assert b"authorization" not in answer


def test_the_longest_idle_connections_make_room(connect: Connect) -> None:
    first, *others = [connect() for _ in range(10)]
    others[0].sendall(GET)
    assert others[0].recv(65_536).startswith(b"HTTP/1.1 200 ")
    newcomer = connect()
    newcomer.sendall(GET)
    assert newcomer.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert _all(first) == b""
    others[0].sendall(GET)
    assert others[0].recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_half_sent_heads_make_room_too(connect: Connect) -> None:
    for _ in range(10):
        connect().sendall(b"GET / HTTP/1.1\r\n")
    newcomer = connect()
    newcomer.sendall(GET)
    assert newcomer.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_of_requests_sent_ahead_the_first_are_answered(connect: Connect) -> None:
    client = connect()
    _send(client, GET * 5000)
    answer = _all(client)
    assert 1 <= answer.count(b"HTTP/1.1 200 ") <= 200
    assert answer.count(b"connection: close") == 1
    assert answer.endswith(b"}")


def test_a_client_that_reads_nothing_is_dropped(
    connect: Connect, app: App, wait_until: Callable[..., Any]
) -> None:
    connect().sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_until(lambda: app.ended == 1)


@pytest.mark.parametrize("limits", [{"max_connections": 200, "header_seconds": 5}])
def test_of_many_requests_some_begin_in_a_turn_and_a_probe_before_the_rest(
    connect: Connect, app: App, wait_until: Callable[..., Any]
) -> None:
    clients = [connect() for _ in range(100)]
    first, *others = clients
    for client in others:
        client.sendall(b"GET / HTTP/1.1\r\n")  # So that they are there when it blocks.
    first.sendall(b"GET /blocking HTTP/1.1\r\n\r\n")
    wait_until(lambda: app.begun)
    for client in others:
        client.sendall(b"\r\n")
    connect().sendall(b"GET /health/live HTTP/1.1\r\n\r\n")
    wait_until(lambda: len(app.begun) == 101)
    assert max(app.in_a_turn.values()) <= 16
    assert app.begun.index("/health/live") < 80


def test_http_1_0_is_answered_and_closed(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert b'"size": 0' in _all(client)


def test_localhost_is_both_families() -> None:
    listeners = listen("127.0.0.1", 0)
    with ExitStack() as opened:
        for listener in listeners:
            opened.enter_context(closing(listener))
        assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


class Late:
    def __init__(self) -> None:
        self.told: list[Phase] = []

    def expired(self, phase: Phase) -> None:
        self.told.append(phase)


async def test_of_thousands_that_are_late_together_some_are_told_in_a_turn() -> None:
    now = 0.0
    connections = Connections(1000, dict.fromkeys(Phase, 1.0), clock=lambda: now)
    late = [Late() for _ in range(150)]
    assert all(connections.opened(one) for one in late)
    now = 2.0
    told = []
    while connections.expire():
        told.append(sum(len(one.told) for one in late))
    assert told == [64, 128]
    assert all(one.told == [Phase.IDLE] for one in late)
    for one in late:
        connections.closed(one)
