"""What callers can do to the others: the worst answer of `/health/live` while each of them tries,
what of it was not waiting for a processor, and the gateway's memory. A caller is an entry of
`CALLERS`; the variable of that name, parts of their names by semicolons, chooses some."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx

import report
from inference_contract import files
from stack import HERE, Stack

WORST_MS = 100
MOST_MIB = 300
SECONDS = 3


@contextmanager
def _watching(port: int, pid: int) -> Iterator[dict[str, float]]:
    """Filled in the end; see `watch`."""
    seen: dict[str, float] = {}
    argv = [sys.executable, str(HERE / "watch.py"), str(port), str(pid)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield seen
        seen |= json.loads(process.communicate()[0])


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


def _authorized(stack: Stack) -> str:
    return f"Authorization: {stack.headers['Authorization']}\r\n"


def _predict(stack: Stack, value: bytes) -> bytes:
    return _post("/v1/predictions", b'{"input":{"v":%s}}' % value, _authorized(stack))


def _schema(stack: Stack, items: dict[str, object], count: int) -> None:
    """Inputs of so many numbers against a schema."""
    stack.apply(
        "hostile",
        type="custom",
        source={"path": "/nowhere"},
        engine={"className": "a:B"},
        inputSchema={"v": {"type": "array", "items": items}},
    )
    values = json.dumps(list(range(count))).encode()
    body = b'{"model":"admin/hostile","input":{"v":%s}}' % values
    _repeat(stack, lambda: _post("/v1/predictions", body, _authorized(stack)))


def _document(stack: Stack, parameters: dict[str, object]) -> None:
    """Registrations of a model with these."""
    body: dict[str, object] = {"name": "hostile", "model_type": "custom", "model_path": "a/b"}
    body |= {"class_name": "a:B", "input_schema": parameters}
    content = json.dumps(body).encode()
    _repeat(stack, lambda: _post("/v1/models", content, _authorized(stack)))


_SOME_ROW = """
INSERT INTO predictions (id, owner, model, version, token, input, deadline, status, completed_at,
  output)
SELECT gen_random_uuid(), id, 'admin/m', '1', 't', '{}', now(), 'succeeded', now(), %s::jsonb
FROM users WHERE username = %s RETURNING id"""


def _get_output(
    stack: Stack, output: str, path: str, reads: bool = True, accounts: Sequence[str] = ("admin",)
) -> None:
    """Many at once ask for a prediction with this output, by as many accounts as are named."""
    heads, rows = [], []
    for name in accounts:
        authorization = _log_in(stack, name)
        ((found,),) = stack.sql(_SOME_ROW, output, name)
        lines = (f"GET {path.format(found)} HTTP/1.1", "Host: a", authorization, "", "")
        heads.append("\r\n".join(lines).encode())
        rows.append(found)
    end = time.monotonic() + SECONDS

    def get(number: int) -> None:
        while time.monotonic() < end:
            with suppress(OSError), _connect(stack) as client:
                client.sendall(heads[number % len(heads)])
                while reads and client.recv(1_000_000) and time.monotonic() < end:
                    pass
                if not reads:
                    time.sleep(max(0, end - time.monotonic()))

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(get, range(50)))
    stack.sql("DELETE FROM predictions WHERE id = ANY (%s::uuid[])", rows)


def _log_in(stack: Stack, name: str) -> str:
    """The header of an account, which is made if it is not there."""
    if name == "admin":
        return _authorized(stack).strip()
    account = {"username": name, "email": f"{name}@example.com", "password": "a-long-password"}
    httpx.post(f"{stack.url}/v1/auth/register", json=account, timeout=60)
    reply = httpx.post(f"{stack.url}/v1/auth/token", data=account, timeout=60).raise_for_status()
    return f"Authorization: Bearer {reply.json()['access_token']}"


def _streams(stack: Stack) -> None:
    stack.apply("m", type="custom", source={"path": "/nowhere"}, engine={"className": "a:B"})
    body = {"model": "admin/m", "input": {}}
    made = httpx.post(f"{stack.url}/v1/predictions", json=body, headers=stack.headers).json()
    path = f"/v1/predictions/{made['id']}/stream"
    _idle(stack, f"GET {path} HTTP/1.1\r\nHost: a\r\n{_authorized(stack)}\r\n".encode(), 1500)


def _registrations(stack: Stack) -> str:
    """300 at once, while an account logs in."""
    account = {"username": "honest", "email": "h@example.com", "password": "a-long-password"}
    httpx.post(f"{stack.url}/v1/auth/register", json=account, timeout=60)

    def register(number: int) -> None:
        name = f"flood{number}-{time.time_ns() % 10**9}"
        body = {**account, "username": name, "email": f"{name}@example.com"}
        with suppress(httpx.HTTPError):
            httpx.post(f"{stack.url}/v1/auth/register", json=body, timeout=60)

    with ThreadPoolExecutor(50) as threads:
        flood = [threads.submit(register, number) for number in range(300)]
        time.sleep(0.5)
        began = time.monotonic()
        form = {"username": "honest", "password": account["password"]}
        httpx.post(f"{stack.url}/v1/auth/token", data=form, timeout=60)
        took = time.monotonic() - began
        for one in flood:
            one.cancel()
    return f"log-in of another: {took:.1f} s"


def _unknown_keys() -> bytes:
    return b"{" + b",".join(b'"k%d":1' % number for number in range(6000)) + b"}"


TEN = [f"caller{number}" for number in range(10)]
GET = "/v1/predictions/{}"
CALLERS: dict[str, Callable[[Stack], str | None]] = {
    # Each is measured for itself; what it returns is printed beside.
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
    "JSON 60,000 deep": lambda s: _repeat(s, lambda: _predict(s, b"[" * 60_000 + b"]" * 60_000)),
    "list of 180,000 numbers": lambda s: _repeat(
        s, lambda: _predict(s, b"[%s1]" % (b"1," * 180_000))
    ),
    "slow bodies of predictions": lambda s: _idle(s, _predict(s, b"1" * 9000)[:-1], 2000),
    "allOf of 150, 40,000 numbers": lambda s: _schema(
        s, {"allOf": [{"type": "integer"}] * 150}, 40_000
    ),
    "enum of 1,000, 100,000 numbers": lambda s: _schema(s, {"enum": [*range(1000)]}, 100_000),
    "document: pattern": lambda s: _document(
        s, {"v": {"type": "array", "items": {"type": "string", "pattern": "(a+)+$"}}}
    ),
    "document: allOf of 9,000": lambda s: _document(
        s, {"v": {"type": "array", "items": {"allOf": [{"type": "integer"}] * 9000}}}
    ),
    "document: 60 times allOf of 150": lambda s: _document(
        s,
        {
            f"v{number}": {"type": "array", "items": {"allOf": [{"type": "integer"}] * 150}}
            for number in range(60)
        },
    ),
    "document: unknown keys": lambda s: _document(
        s, {f"v{number}": {"type": "int"} for number in range(9000)}
    ),
    "1,500 streams": _streams,
    "50 GETs of a text of 9 MB": lambda s: _get_output(s, f'"{"x" * 9_000_000}"', GET),
    "50 GETs of 3,000,000 lists": lambda s: _get_output(s, f"[{'[],' * 3_000_000}1]", GET),
    "50 streams of a text of 9 MB": lambda s: _get_output(
        s, f'"{"x" * 9_000_000}"', GET + "/stream"
    ),
    "50 streams of 9 MB of line ends": lambda s: _get_output(
        s, '"' + r"\n" * 9_000_000 + '"', GET + "/stream"
    ),
    "50 pages of 9 MB": lambda s: _get_output(s, f'"{"x" * 9_000_000}"', "/v1/predictions"),
    "50 that never read 9 MB": lambda s: _get_output(s, f'"{"x" * 9_000_000}"', GET, reads=False),
    "50 of 10 accounts that never read 9 MB": lambda s: _get_output(
        s, f'"{"x" * 9_000_000}"', GET, reads=False, accounts=TEN
    ),
    "50 of 10 accounts that never read 9 MB and an emoji": lambda s: _get_output(
        s, f'"\U0001f600{"x" * 9_000_000}"', GET, reads=False, accounts=TEN
    ),
    "300 registrations": _registrations,
}


def measure(stack: Stack) -> None:
    report.title("hostile callers: the worst of /health/live, and the gateway's memory")
    files.raise_limit()
    (pid,) = stack.groups()["gateway"]
    rows = []
    wanted = os.environ.get("CALLERS", "").split(";")
    for name, attack in CALLERS.items():
        if not any(part in name for part in wanted):
            continue
        with _watching(stack.port, pid) as seen:
            note = attack(stack) or ""
        good = seen["own_ms"] <= WORST_MS and seen["mib"] <= MOST_MIB and not seen["refused"]
        figures = [f"{seen[key]:.0f}" for key in ("worst_ms", "own_ms", "mib", "refused")]
        rows.append((name, *figures, "" if good else "MISSED", note))
    heads = ("caller", "worst ms", "less waiting for a CPU", "RSS MiB", "refused")
    report.table((*heads, f"({WORST_MS} ms, {MOST_MIB})", ""), rows)
