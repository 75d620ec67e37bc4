"""The server of probes and metrics: whoever is slow shuts nobody out."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from inference_contract.probes import ProbeReply, ProbeServer


@pytest.fixture
def port() -> Iterator[int]:
    server = ProbeServer("127.0.0.1", 0, {"/health": lambda: ProbeReply(200, b"ok")})
    yield server.port
    server.close()


def test_two_hundred_slow_clients_shut_no_probe_out(
    port: int, wait_until: Callable[..., bool]
) -> None:
    before = threading.active_count()
    with ExitStack() as opened:
        for _ in range(200):
            client = opened.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            client.sendall(b"GET /health HTTP/1.1\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            assert reply.read() == b"ok"
        wait_until(lambda: threading.active_count() - before < 60)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\0\x01 \xff\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"POST /health\r\n\r\n", 400),
        (b"GET /health HTTP/1.1.1\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\n\r\n", 505),
        (b"GET /health HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000, 414),
        (b"POST /health HTTP/1.1\r\n\r\n", 501),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /nothing\r\n\r\n", 404),
    ],
)
def test_who_sends_rubbish_gets_a_problem(port: int, sent: bytes, status: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
        client.sendall(sent)
        head, _, body = b"".join(iter(lambda: client.recv(4096), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 %d " % status)
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("request_line", ["GET /health", "GET /nothing", "POST /health"])
def test_no_cache_keeps_an_answer_and_nothing_guesses_what_it_is(
    port: int, request_line: str
) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
        client.sendall(f"{request_line} HTTP/1.0\r\n\r\n".encode())
        head = b"".join(iter(lambda: client.recv(4096), b"")).lower()
    assert b"cache-control: no-store\r\n" in head
    assert b"x-content-type-options: nosniff\r\n" in head
