"""The gateway's process and its health, with servers that come and go."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pytest
import redis
import uvicorn
from fastapi import FastAPI
from pydantic import TypeAdapter

from inference_contract import queues
from inference_gateway import migrations
from inference_gateway.__main__ import Server, protocol
from inference_gateway.api.app import create_app, front, prepare
from inference_gateway.api.health import schema_state
from inference_gateway.background import progress
from inference_gateway.health_state import HealthState
from inference_gateway.http.listeners import listen
from inference_gateway.settings import GatewaySettings

Start = Callable[..., subprocess.Popen[str]]
MIB = 1024
REDIS = {"redis": "ok", "operator": "degraded"}
"""Without an operator."""


async def test_health_names_each_dependency(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    redis_client.set(queues.OPERATOR, "1", ex=queues.OPERATOR_SECONDS)
    progress.tell(redis_client, dict.fromkeys(progress.LOOPS, 0.0))
    answer = await client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ok"
    assert {name: part["status"] for name, part in body["dependencies"].items()} == {
        "postgresql": "ok",
        "migrations": "ok",
        "redis": "ok",
        "dispatch": "ok",
        "operator": "ok",
    }


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "no dispatch was heard of"),
        ({loop: 0 for loop in progress.LOOPS if loop != "webhooks"}, "without progress: webhooks;"),
        ({**dict.fromkeys(progress.LOOPS, 0), "recorder": 47}, "recorder for 47 s;"),
        (dict.fromkeys(progress.LOOPS, -600), "recorder for -600 s"),
    ],
)
async def test_health_tells_of_loops_without_progress(
    client: httpx.AsyncClient, redis_client: Any, told: dict[str, float], message: str
) -> None:
    if told:
        progress.tell(redis_client, told)
    answer = await client.get("/health")
    assert answer.status_code == 200, "requests can be served"
    assert answer.json()["status"] == "degraded"
    dispatch = answer.json()["dependencies"]["dispatch"]
    assert dispatch["status"] == "degraded"
    assert message in dispatch["message"]


async def test_health_says_that_writes_are_refused(
    client: httpx.AsyncClient, redis_client: Any
) -> None:
    redis_client.config_set("maxmemory", "1")
    try:
        answer = await client.get("/health")
    finally:
        redis_client.config_set("maxmemory", "0")
    assert redis_client.ping()
    redis_state = answer.json()["dependencies"]["redis"]
    assert (answer.status_code, redis_state["status"]) == (200, "degraded")
    assert "writes are refused" in redis_state["message"]


async def test_health_tells_of_a_missing_operator(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    assert "no operator has given a sign" in body["dependencies"]["operator"]["message"]


async def health_of(settings: GatewaySettings) -> tuple[int, dict[str, str], int]:
    """Of a gateway that is started with these settings: ready, states, live."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        ready, live = await client.get("/health/ready"), await client.get("/health/live")
        parts = ready.json()["dependencies"]
        assert parts.pop("dispatch")["status"] == "degraded", "there is none"
        return ready.status_code, {n: p["status"] for n, p in parts.items()}, live.status_code


async def test_once_prepared_the_first_requests_build_nothing(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(app)
    built: list[object] = []
    original = TypeAdapter.__init__

    def counted(self: TypeAdapter[Any], *arguments: Any, **named: Any) -> None:
        built.append(self)
        original(self, *arguments, **named)

    monkeypatch.setattr(TypeAdapter, "__init__", counted)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in ("/health/live", "/openapi.json", "/nothing"):
            await client.get(path)
    assert built == []


@pytest.fixture
def collector() -> Iterator[None]:
    """The garbage collector of this process, given back as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_when_it_listens_it_is_prepared_and_looks_after_its_memory(
    app: FastAPI, settings: GatewaySettings, wait_until: Callable[..., Any], collector: None
) -> None:
    listeners = listen("127.0.0.1", 0)
    config = uvicorn.Config(front(app), http=protocol(settings), log_config=None)
    server = Server(config, app, settings, port=0)
    serving = asyncio.create_task(server.serve(listeners))
    await asyncio.to_thread(wait_until, lambda: server.started)
    assert app.openapi_schema is not None
    assert gc.get_freeze_count() > 0
    assert "garbage" in {task.get_name() for task in asyncio.all_tasks()}
    server.should_exit = True
    await serving


async def test_it_starts_without_postgresql(settings: GatewaySettings) -> None:
    settings.database_url = "postgresql://nobody@127.0.0.1:1/nothing"
    ready, states, live = await health_of(settings)
    assert (ready, live) == (503, 200)
    assert states == {"postgresql": "unavailable", "migrations": "unavailable", **REDIS}


async def test_it_starts_without_redis_and_is_ready(settings: GatewaySettings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    ready, states, _ = await health_of(settings)
    assert ready == 200
    degraded = {"redis": "degraded", "operator": "degraded"}
    assert states == {"postgresql": "ok", "migrations": "ok", **degraded}


async def test_it_starts_without_its_cluster(settings: GatewaySettings, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],"
        " users: [{name: u, user: {token: x}}],"
        " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]}"
    )
    settings.inference_home, settings.kubeconfig = None, str(kubeconfig)
    ready, states, live = await health_of(settings)
    assert (ready, live) == (503, 200)
    assert states.pop("kubernetes") == "unavailable"
    assert states.pop("operator") == "degraded"
    assert set(states.values()) == {"ok"}


async def test_a_database_without_the_schema_is_not_ready(
    client: httpx.AsyncClient, database_url: str
) -> None:
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("DROP TABLE alembic_version")
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert "alembic upgrade head" in answer.json()["dependencies"]["migrations"]["message"]


@pytest.mark.parametrize(
    ("revision", "state"),
    [
        (migrations.HEAD, HealthState.OK),
        ("9999", HealthState.DEGRADED),
        ("0000", HealthState.UNAVAILABLE),
        (None, HealthState.UNAVAILABLE),
        ("f00dcafe", HealthState.UNAVAILABLE),
    ],
)
def test_the_schema_against_the_code(revision: str | None, state: HealthState) -> None:
    assert schema_state(revision).status is state


async def test_a_restarted_database_costs_one_round(
    client: httpx.AsyncClient, app: FastAPI, database_url: str, auth: Callable[..., dict[str, str]]
) -> None:
    headers = auth("ada")
    assert (await client.get("/v1/auth/tokens", headers=headers)).status_code == 200
    with closing(psycopg2.connect(database_url)) as connection:
        connection.cursor().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert (await client.get("/v1/auth/tokens", headers=headers)).status_code == 200


@pytest.fixture
def start(settings: GatewaySettings, tmp_path: Path) -> Iterator[Start]:
    """Starts the real process; a keyword argument is an environment variable, None unsets it."""
    started: list[subprocess.Popen[str]] = []

    def run(**changes: str | None) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": str(settings.redis_url),
            "SECRET_KEY": settings.secret_key.get_secret_value(),
            "INFERENCE_HOME": str(settings.inference_home),
            "API_HOST": "127.0.0.1",
            "API_PORT": "0",
            "STATE_FILE": str(tmp_path / "gateway.json"),
            **changes,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "inference_gateway"],
            env={key: value for key, value in environment.items() if value is not None},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def listening(process: subprocess.Popen[str], state_file: Path) -> int:
    """The port, as soon as there is one."""
    end = time.monotonic() + 30
    while not state_file.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    state: dict[str, int] = json.loads(state_file.read_text())
    assert state["pid"] == process.pid
    return state["port"]


def resident_kib(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss) // 1024


def test_the_process(start: Start, tmp_path: Path) -> None:
    """From start to stop, once: it answers, stays small, logs JSON, and stops when told."""
    process = start()
    url = f"http://127.0.0.1:{listening(process, tmp_path / 'gateway.json')}"
    person = {"username": "ada", "email": "ada@example.com", "password": "password123"}
    with httpx.Client(base_url=url) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.post("/v1/auth/register", json=person).status_code == 201
        for _ in range(3):
            assert client.post("/v1/auth/token", data=person).status_code == 200
        # Whoever connects from this machine is not believed either: no proxy is trusted.
        claim = {"X-Forwarded-For": "192.0.2.1"}
        assert client.get("/nothing", headers=claim).status_code == 404
        assert resident_kib(process.pid) < 120 * MIB
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=10)
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert {line["process"] for line in lines} == {"gateway"}
    told = [(line["path"], line["client"]) for line in lines if line["event"] == "request"]
    assert told == [("/nothing", "127.0.0.1")]


def test_who_waits_for_an_end_is_answered_when_it_stops(
    start: Start,
    tmp_path: Path,
    make_model: Callable[..., Any],
    auth: Callable[..., dict[str, str]],
    sql: Callable[..., Any],
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m")
    process = start()
    url = f"http://127.0.0.1:{listening(process, tmp_path / 'gateway.json')}/v1/predictions"
    headers = {**auth("ada"), "Prefer": "wait=60"}
    body = {"model": "ada/m", "input": {"prompt": "x"}}
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(httpx.post, url, json=body, headers=headers, timeout=30)
        wait_until(lambda: sql("SELECT 1 FROM predictions"))
        process.send_signal(signal.SIGTERM)
        reply = call.result(30)
    assert (reply.status_code, reply.json()["status"]) == (202, "starting")


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(API_PORT=str(port))
        _, output = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.startswith(f"127.0.0.1:{port} is taken")
    assert output.count("\n") == 1


@pytest.mark.parametrize("name", ["SECRET_KEY", "INFERENCE_HOME"])
def test_a_setting_that_is_missing(start: Start, name: str) -> None:
    no_cluster = {"KUBECONFIG": None, "KUBERNETES_SERVICE_HOST": None}
    process = start(**no_cluster, **{name: None})
    _, output = process.communicate(timeout=30)
    assert process.returncode == 2
    assert output.startswith(f"{name} is not set")
    assert output.count("\n") == 1
