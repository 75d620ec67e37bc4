"""Actions of hostile callers and hostile runners: none may affect others."""

from __future__ import annotations

import json
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from world import World

_DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000
_UNKNOWN = json.dumps({f"key{n}": n for n in range(300_000)}).encode()
_TEXT = {"Content-Type": "application/json"}


def _post(world: World, path: str, content: bytes, **headers: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(world.url + path, content=content, headers={**_TEXT, **headers}, timeout=20)


def deep_json(world: World, chance: random.Random) -> None:
    depth = chance.choice([60, 64, 65, 100, 253, 254, 500, 1000, 100_000])
    value = b"[" * depth + b"]" * depth
    body = b'{"model_id":"admin/quick","input":{"text":' + value + b"}}"
    _post(world, "/v1/predictions", body, **world.headers)
    _post(world, "/v1/models", _DEEP, **world.headers)


def odd_bodies(world: World, chance: random.Random) -> None:
    for content in (b"", b"\xff\xfe", b"null", b"[]", b'{"input":1e400}', b'"\\ud800"', b"{" * 99):
        _post(world, "/v1/predictions", content, **world.headers)
        _post(world, "/v1/models", content, **world.headers)
        _post(world, "/v1/auth/register", content)


def unknown_fields(world: World, chance: random.Random) -> None:
    _post(world, "/v1/auth/register", _UNKNOWN)


def odd_paths(world: World, chance: random.Random) -> None:
    for path in (
        *("/v1/predictions?model=%00", "/v1/predictions?cursor=%ff", "/v1/predictions/%00"),
        *("/v1/predictions?created_after=9999-12-31T23:59:59Z", "/v1/models?cursor=AAAA"),
        *("/v1/models/%2e%2e/%00", "/%ff%fe", "/v1/predictions?limit=99999999999999999999"),
    ):
        with suppress(httpx.HTTPError):
            reply = httpx.get(world.url + path, headers=world.headers, timeout=20)
            assert reply.status_code < 500, f"{path}: {reply.status_code}"


def endless_header(world: World, chance: random.Random) -> None:
    with _connection(world) as connection, suppress(OSError):
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
        for _ in range(200):
            connection.sendall(b"x" * 65_536)


def slow_requests(world: World, chance: random.Random) -> None:
    opened = [_connection(world) for _ in range(100)]
    with suppress(OSError):
        for connection in opened:
            connection.sendall(
                b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
            )
        time.sleep(1)
    for connection in opened:
        connection.close()


def log_ins(world: World, chance: random.Random) -> None:
    def guess() -> None:
        form = {"username": secrets.token_hex(4), "password": "wrong-password"}
        with suppress(httpx.HTTPError):
            httpx.post(f"{world.url}/v1/auth/token", data=form, timeout=20)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def readers_that_do_not_read(world: World, chance: random.Random) -> None:
    opened = [_connection(world) for _ in range(10)]
    authorization = world.headers["Authorization"].encode()
    with suppress(OSError):
        for connection in opened:
            connection.sendall(
                b"GET /v1/predictions?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: "
                + authorization
                + b"\r\n\r\n"
            )
        time.sleep(1)
    for connection in opened:
        connection.close()


def _connection(world: World) -> socket.socket:
    parts = urlsplit(world.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)


CALLERS: tuple[Callable[[World, random.Random], None], ...] = (
    deep_json,
    odd_bodies,
    unknown_fields,
    odd_paths,
    endless_header,
    slow_requests,
    log_ins,
    readers_that_do_not_read,
)


def forged_events(world: World, chance: random.Random) -> None:
    """Entries of a hostile runner in its own model's event stream."""
    real = secrets.token_hex(4)
    mine = f"0199f0c2-7a51-7c3e-9d5b-3f0e{real}"
    event = {"type": "succeeded", "id": mine, "attempt": 1, "token": "x", "output": 1}
    deep = "[" * 400 + "]" * 400
    odd = (
        *('[{"type":[]}]', "[[]]", "{}", "null", "", "[" * 100_000, f"[{deep}]"),
        *(json.dumps([{**event, "predict_time": 1}]).replace("1}]", "1e400}]"), "\x00"),
        json.dumps([{**event, "attempt": 2**40}]),
        json.dumps([{**event, "output": {"x": "\x00\ud800"}}]),
        json.dumps([{**event, "output": 10**400}]),
        json.dumps([{**event, "type": "started", "metrics": {"a": "b"}, "logs": 7}]),
        json.dumps([{**event, "output": json.loads(deep)}]),
    )
    with world.direct_redis() as client:
        for data in chance.sample(odd, 5):
            client.xadd("admin_villain:events", {"d": data.encode("utf-8", "surrogatepass")})
        client.xadd("admin_villain:events", {"other": "field"})


def ids_of_its_own(world: World, chance: random.Random) -> None:
    """Entry ids far in the future, until its stream takes no other; then the stream goes."""
    with world.direct_redis() as client:
        for entry_id in ("9999999999999-0", "18446744073709551615-18446744073709551615"):
            client.xadd("admin_villain:events", {"d": b"[]"}, id=entry_id)
        time.sleep(0.5)
        client.delete("admin_villain:events")


def ends_for_others(world: World, chance: random.Random) -> None:
    """Terminal events for predictions that run, under tokens that it does not know."""
    rows = world.sql(
        "SELECT id::text, model, attempt FROM predictions WHERE completed_at IS NULL LIMIT 20"
    )
    with world.direct_redis() as client:
        for made, model, attempt in rows:
            key = model.replace("/", "_")
            event = {"id": made, "attempt": attempt, "token": "guess", "type": "succeeded"}
            client.xadd(f"{key}:events", {"d": json.dumps([{**event, "output": "forged"}])})


def repeated_events(world: World, chance: random.Random) -> None:
    """Earlier events are repeated, as from a runner that was frozen."""
    with world.direct_redis() as client:
        for name in ("quick", "story", "moody"):
            stream = f"admin_{name}:events"
            for _, fields in client.xrevrange(stream, count=20):
                client.xadd(stream, fields)


def a_large_queue(world: World, chance: random.Random) -> None:
    """Its own keys grow by some megabytes."""
    with world.direct_redis() as client:
        for _ in range(20):
            client.xadd("admin_villain:events", {"d": b"x" * 1_000_000})


RUNNERS: tuple[Callable[[World, random.Random], None], ...] = (
    forged_events,
    ids_of_its_own,
    ends_for_others,
    repeated_events,
    a_large_queue,
)
