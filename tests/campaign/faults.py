"""The faults of a campaign: each is a context manager that causes it, and repairs it at the end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import psycopg2
import redis

from attackers import CALLERS, RUNNERS
from inference_gateway.dispatch.recording.apply_changes import RECORD, RECORD_AND_TELL
from inference_gateway.predictions.creating.statements import INSERT
from inference_operator.local import procfs
from world import LEASE_SECONDS, World

Fault = Callable[[World, random.Random], AbstractContextManager[None]]


class NotNow(Exception):
    """The target of the fault does not exist."""


def _pid(world: World, name: str, chance: random.Random) -> int:
    if name == "runner":
        if not (runners := world.runners()):
            raise NotNow(name)
        return chance.choice(runners)
    pids = world.stack.pids()
    if name not in pids:
        raise NotNow(name)
    return pids[name]


@contextmanager
def _killed(
    name: str, world: World, chance: random.Random, number: int = signal.SIGKILL
) -> Iterator[None]:
    """Wait until it has exited: before that it may still answer."""
    pid = _pid(world, name, chance)
    identity = procfs.identity(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    yield
    world.until(lambda: procfs.identity(pid) != identity, 60, f"{name} has ended")


@contextmanager
def _stopped(name: str, world: World, chance: random.Random) -> Iterator[None]:
    """SIGTERM: it exits, and is restarted."""
    with _killed(name, world, chance, signal.SIGTERM):
        yield


@contextmanager
def _frozen(name: str, seconds: float, world: World, chance: random.Random) -> Iterator[None]:
    """It is stopped by SIGSTOP, and continued."""
    pid = _pid(world, name, chance)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(0.5, 1) * seconds)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _redis_emptied(world: World, chance: random.Random) -> Iterator[None]:
    with world.direct_redis() as client:
        client.flushall()
    yield


@contextmanager
def _redis_without_its_file(world: World, chance: random.Random) -> Iterator[None]:
    """Its data is deleted, and then it is killed: the next process finds none."""
    for file in sorted((world.home / "valkey").rglob("*"), reverse=True):
        with suppress(OSError):
            file.unlink() if file.is_file() else file.rmdir()
    with _killed("valkey", world, chance):
        yield


@contextmanager
def _keys_lost(world: World, chance: random.Random) -> Iterator[None]:
    """Some of the jobs, queues and streams."""
    with world.direct_redis() as client:
        keys = list(client.scan_iter(count=1000))
        for key in chance.sample(keys, min(len(keys), 30)):
            client.delete(key)
    yield


@contextmanager
def _redis_full(world: World, chance: random.Random) -> Iterator[None]:
    with world.direct_redis() as client:
        client.config_set("maxmemory", "1mb")
        try:
            time.sleep(chance.uniform(0.5, 3))
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def _redis_connections_ended(world: World, chance: random.Random) -> Iterator[None]:
    with world.direct_redis() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    yield


@contextmanager
def _cut(name: str, world: World, chance: random.Random) -> Iterator[None]:
    (world.database if name == "postgres" else world.redis).cut()
    yield


@contextmanager
def _refused(name: str, seconds: float, world: World, chance: random.Random) -> Iterator[None]:
    between = world.database if name == "postgres" else world.redis
    between.refuse(True)
    between.cut()
    try:
        time.sleep(chance.uniform(0.2, 1) * seconds)
        yield
    finally:
        between.refuse(False)


@contextmanager
def _stalled(name: str, world: World, chance: random.Random) -> Iterator[None]:
    between = world.database if name == "postgres" else world.redis
    between.stall()
    try:
        time.sleep(chance.uniform(0.5, 5))
        yield
    finally:
        between.flow()


@contextmanager
def _unheard(
    between: str, away: float, requests: Sequence[bytes], world: World, chance: random.Random
) -> Iterator[None]:
    """A command is executed without an answer; for so many seconds after it none is answered."""
    there = world.database if between == "postgres" else world.redis
    before = there.lost
    wanted = chance.choice(requests)
    there.lose_answer_to(wanted)
    try:
        end = time.monotonic() + _ASKED_WITHIN
        while there.lost == before:
            if time.monotonic() > end:
                raise NotNow(wanted)
            time.sleep(0.005)
        if away:
            there.refuse(True)
            there.cut()
            time.sleep(away)
        yield
    finally:
        there.lose_answer_to(None)
        there.refuse(False)


@contextmanager
def _connections_terminated(world: World, chance: random.Random) -> Iterator[None]:
    with suppress(psycopg2.Error):
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    yield


@contextmanager
def _read_only(world: World, chance: random.Random) -> Iterator[None]:
    """Read-only, like a standby during a failover."""
    world.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    world.sql("SELECT pg_reload_conf()")
    try:
        time.sleep(chance.uniform(0.5, 4))
        yield
    finally:
        world.sql("ALTER SYSTEM RESET default_transaction_read_only")
        world.sql("SELECT pg_reload_conf()")


@contextmanager
def _connections_taken(world: World, chance: random.Random) -> Iterator[None]:
    """All connections of the database are in use."""
    held: list[psycopg2.extensions.connection] = []
    try:
        with suppress(psycopg2.OperationalError):
            while len(held) < 100:
                held.append(world.connect())
        time.sleep(chance.uniform(0.5, 3))
        yield
    finally:
        for connection in held:
            connection.close()


@contextmanager
def _disk_full(world: World, chance: random.Random) -> Iterator[None]:
    if not os.path.ismount(world.home.parent):
        raise NotNow("a disk of its own")
    ballast = world.home.parent / "ballast"
    try:
        _fill(ballast)
        time.sleep(chance.uniform(0.5, 3))
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65_536)


@contextmanager
def _model_changed(world: World, chance: random.Random) -> Iterator[None]:
    """A new version of a model under load: its runners are swapped."""
    name = chance.choice(["quick", "story", "moody"])
    url = f"{world.url}/v1/models/admin/{name}"
    with suppress(httpx.HTTPError, KeyError, ValueError):
        document = httpx.get(url, headers=world.headers, timeout=10).json()["document"]
        document["spec"]["version"] = f"v{chance.randrange(10**6)}"
        httpx.put(url, json=document, headers=world.headers, timeout=10)
    yield


@contextmanager
def _hostile(
    act: Callable[[World, random.Random], None], world: World, chance: random.Random
) -> Iterator[None]:
    act(world, chance)
    yield


_PROCESSES = ("gateway", "dispatch", "operator", "runner", "valkey", "postgres")
BEYOND_THE_LEASE = 2 * LEASE_SECONDS
_ASKED_WITHIN = 5
_CREATES = INSERT.partition("(")[0].encode()
_RECORDS = [name.partition("(")[0].encode() for name in (RECORD, RECORD_AND_TELL)]

DISTURBING: dict[str, Fault] = {
    **{f"{name} killed": partial(_killed, name) for name in (*_PROCESSES, "runner")},
    **{f"{name} stopped": partial(_stopped, name) for name in ("gateway", "dispatch", "operator")},
    **{f"{name} frozen": partial(_frozen, name, BEYOND_THE_LEASE) for name in _PROCESSES},
    "runner killed": partial(_killed, "runner"),
    "redis emptied": _redis_emptied,
    "redis without its file": _redis_without_its_file,
    "keys lost": _keys_lost,
    "redis full": _redis_full,
    "redis connections ended": _redis_connections_ended,
    "redis cut": partial(_cut, "redis"),
    "redis refused": partial(_refused, "redis", BEYOND_THE_LEASE),
    "redis stalled": partial(_stalled, "redis"),
    "an enqueue unheard": partial(_unheard, "redis", 0, [b"EVALSHA", b"XADD", b"XACK", b"FCALL"]),
    "postgres cut": partial(_cut, "postgres"),
    "postgres refused": partial(_refused, "postgres", 4),
    "postgres stalled": partial(_stalled, "postgres"),
    "postgres connections terminated": _connections_terminated,
    "postgres connections taken": _connections_taken,
    "postgres read-only": _read_only,
    "a commit unheard": partial(_unheard, "postgres", 0, [_CREATES]),
    "a commit unheard, then postgres away": partial(_unheard, "postgres", 12, [_CREATES]),
    "a record unheard": partial(_unheard, "postgres", 0, _RECORDS),
    "disk full": _disk_full,
    "model changed": _model_changed,
}
"""These may slow all callers down."""
HARMLESS: dict[str, Fault] = {
    act.__name__.replace("_", " "): partial(_hostile, act) for act in (*CALLERS, *RUNNERS)
}
"""These must not affect other callers."""
ALL = {**DISTURBING, **HARMLESS}
DEADLY = frozenset({"runner killed", "runner frozen"})
"""Only these may count as a runner's death."""
REDIS_ERRORS = (redis.RedisError, psycopg2.Error, OSError)
