"""The real PostgreSQL and the real Valkey, one pair per test process; a fresh database per test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg2
import pytest
import redis

from inference_local import postgres, valkey

pytest_plugins = ["inference_stack", "fake_hub", "lossy_postgres", "failover"]

T = TypeVar("T")
ROOT = Path(__file__).parent.parent

# A shell takes Ctrl-C away from what it runs in the background, and from all that this starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(condition: Callable[[], T], timeout: float = 20.0, every: float = 0.02) -> T:
    """Poll until the condition gives something true, and return that.

    Raises:
        AssertionError: when it stays false for `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {timeout} s: {condition}")
        time.sleep(every)
    return value


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., T]:
    return wait_until


@dataclass(frozen=True)
class Servers:
    sockets: Path

    @property
    def redis_url(self) -> str:
        return valkey.url(self.sockets)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="inference-test-") as folder:
        root = Path(folder)
        (root / "valkey").mkdir()
        postgres.initialize(root / "pg")
        commands = [
            [*postgres.command(root / "pg", root), "-cfsync=off"],
            valkey.command(root / "valkey", root),
        ]
        with (root / "log").open("wb") as log:
            processes = [subprocess.Popen(argv, stderr=log, stdout=log) for argv in commands]
        try:
            wait_until(lambda: postgres.is_ready(root) and valkey.is_ready(root))
            yield Servers(root)
        finally:
            processes[0].send_signal(2)
            processes[1].terminate()
            for process in processes:
                process.wait(10)


@pytest.fixture(scope="session")
def template_database(servers: Servers) -> str:
    """A database with the schema, made once by `alembic upgrade head` and copied for each test."""
    with _admin(servers) as cursor:
        cursor.execute("CREATE DATABASE template_inference")
    url = postgres.url(servers.sockets, "template_inference")
    subprocess.run(
        [str(Path(sys.executable).parent / "alembic"), "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
        capture_output=True,
    )
    return "template_inference"


_numbers = itertools.count()


@pytest.fixture
def database_url(servers: Servers, template_database: str) -> Iterator[str]:
    """The URL of a database of this test's own, with the schema, empty."""
    name = f"test_{next(_numbers)}"
    with _admin(servers) as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield postgres.url(servers.sockets, name)
    with _admin(servers) as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """The URL of an empty Valkey."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


class _admin:
    """A cursor outside any transaction, in the server's own database."""

    def __init__(self, servers: Servers) -> None:
        self._url = postgres.url(servers.sockets)

    def __enter__(self) -> psycopg2.extensions.cursor:
        self._connection = psycopg2.connect(self._url)
        self._connection.autocommit = True
        return self._connection.cursor()

    def __exit__(self, *_: object) -> None:
        self._connection.close()
