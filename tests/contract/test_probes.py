"""The server of probes and metrics: whoever is slow shuts nobody out."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from inference_contract.probes import ProbeServer, Reply


@pytest.fixture
def port() -> Iterator[int]:
    server = ProbeServer("127.0.0.1", 0, {"/health": lambda: Reply(200, b"ok")})
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


@pytest.mark.parametrize("request_line", ["GET /health", "GET /nothing", "POST /health"])
def test_no_cache_keeps_an_answer_and_nothing_guesses_what_it_is(
    port: int, request_line: str
) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
        client.sendall(f"{request_line} HTTP/1.0\r\n\r\n".encode())
        head = b"".join(iter(lambda: client.recv(4096), b"")).lower()
    assert b"cache-control: no-store\r\n" in head
    assert b"x-content-type-options: nosniff\r\n" in head
