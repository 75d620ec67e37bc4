"""What callers can do to the others: the worst answer of `/health/live` while each of them tries,
and the gateway's memory. A caller is an entry of `CALLERS`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psutil

import report
from stack import Stack

WORST_MS = 100
MOST_MIB = 300
SECONDS = 5


@dataclass
class Watch:
    """Asks for `/health/live` on a new connection each time, and looks at the gateway's memory."""

    port: int
    process: psutil.Process
    milliseconds: list[float] = field(default_factory=list)
    mib: float = 0
    refused: int = 0

    def ask(self) -> None:
        began = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                self.refused += not client.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            self.refused += 1
        self.milliseconds.append(1000 * (time.perf_counter() - began))
        self.mib = max(self.mib, self.process.memory_info().rss / 2**20)


@contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.02):
            watch.ask()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _connect(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.port), timeout=20)


def _idle(stack: Stack, head: bytes = b"", count: int = 5000) -> None:
    with ExitStack() as opened:
        for _ in range(count):
            with suppress(OSError):
                opened.enter_context(_connect(stack)).sendall(head)
        time.sleep(SECONDS)


def _repeat(stack: Stack, content: Callable[[], bytes]) -> None:
    """The same bytes over and over, each on a connection of its own."""
    sent, end = content(), time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(OSError), _connect(stack) as client:
            client.sendall(sent)
            client.recv(4096)


def _post(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _validation(stack: Stack) -> None:
    items = {"allOf": [{"type": "integer"}] * 150}
    stack.apply(
        "hostile",
        type="custom",
        source={"path": "/nowhere"},
        engine={"className": "a:B"},
        inputSchema={"v": {"type": "array", "items": items}},
    )
    body = {"model": "admin/hostile", "input": {"v": list(range(40_000))}}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        httpx.post(f"{stack.url}/v1/predictions", json=body, headers=stack.headers, timeout=60)


def _unknown_keys() -> bytes:
    return b"{" + b",".join(b'"k%d":1' % number for number in range(6000)) + b"}"


CALLERS: dict[str, Callable[[Stack], None]] = {
    "nobody": lambda _: time.sleep(SECONDS),
    "5,000 idle connections": _idle,
    "5,000 half-sent heads": lambda s: _idle(s, b"GET / HTTP/1.1\r\nA: "),
    "2,000 half-sent bodies": lambda s: _idle(s, _post("/v1/auth/register", b"{" * 99)[:-1], 2000),
    "header without end": lambda s: _repeat(
        s, lambda: b"GET / HTTP/1.1\r\nA: " + b"x" * 60_000_000
    ),
    "many headers": lambda s: _repeat(s, lambda: b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9_999_999),
    "requests sent ahead": lambda s: _repeat(
        s, lambda: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 99_999
    ),
    "tiny chunks": lambda s: _repeat(
        s,
        lambda: (
            b"POST /v1/auth/register HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\n{\r\n" * 1_000_000
        ),
    ),
    "registration of unknown keys": lambda s: _repeat(
        s, lambda: _post("/v1/auth/register", _unknown_keys())
    ),
    "body of 9.9 MB": lambda s: _repeat(s, lambda: _post("/v1/auth/register", b"[" * 9_900_000)),
    "JSON of lists": lambda s: _repeat(
        s,
        lambda: _post(
            "/v1/predictions",
            b'{"input":{"v":[' + b"[]," * 3_000_000 + b"1]}}",
            f"Authorization: {s.headers['Authorization']}\r\n",
        ),
    ),
    "schema times input": _validation,
}


def measure(stack: Stack) -> None:
    report.title("hostile callers: the worst of /health/live, and the gateway's memory")
    (pid,) = stack.groups()["gateway"]
    rows = []
    for name, attack in CALLERS.items():
        watch = Watch(stack.port, psutil.Process(pid))
        with _watching(watch):
            attack(stack)
        worst = max(watch.milliseconds)
        verdict = worst <= WORST_MS and watch.mib <= MOST_MIB and not watch.refused
        figures = (f"{worst:.0f}", f"{watch.mib:.0f}", watch.refused, "" if verdict else "MISSED")
        rows.append((name, *figures))
    report.table(("caller", "worst ms", "RSS MiB", "refused", f"({WORST_MS} ms, {MOST_MIB})"), rows)
