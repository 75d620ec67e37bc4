"""SIGTERM while a server says nothing: the process ends within its grace period all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from failover import Failover
from lossy_postgres import LossyPostgres

from inference_contract import statefile
from inference_gateway.settings import GatewaySettings

GRACE_SECONDS = 30
"""The chart's and Kubernetes' own."""


@pytest.fixture
def start(
    settings: GatewaySettings,
    lossy_postgres: LossyPostgres,
    failover: Failover,
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts the process of a module on servers that can fall silent."""
    state = tmp_path / "state.json"
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": lossy_postgres.url(settings.database_url),
        "REDIS_URL": failover.url,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "INFERENCE_HOME": str(settings.inference_home),
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": "0",
        "SWEEP_SECONDS": "0.2",
        "STATE_FILE": str(state),
    }
    started: list[subprocess.Popen[bytes]] = []

    def run(module: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", module]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=log))
        wait_until(state.exists)
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("module", "silent"),
    [
        ("inference_gateway", "postgresql"),
        ("inference_gateway", "redis"),
        ("inference_gateway", "postgresql and redis"),
        ("inference_gateway.dispatch", "postgresql and redis"),
    ],
)
def test_it_ends_within_its_grace_period(
    start: Callable[[str], subprocess.Popen[bytes]],
    module: str,
    silent: str,
    lossy_postgres: LossyPostgres,
    failover: Failover,
    tmp_path: Path,
    auth: Callable[..., dict[str, str]],
    make_model: Callable[..., Any],
    wait_until: Callable[..., Any],
) -> None:
    make_model("ada", "m")
    process = start(module)
    url = f"http://127.0.0.1:{(statefile.read(tmp_path / 'state.json') or {})['port']}"
    wait_until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    body = {"model": "ada/m", "input": {"prompt": "x"}}
    headers = auth("ada")

    def call(method: str, path: str, **more: Any) -> None:
        with suppress(httpx.HTTPError):
            httpx.request(method, url + path, headers=headers, timeout=60, **more)

    call("POST", "/v1/predictions", json=body)
    lossy_postgres.is_silent = "postgresql" in silent
    failover.is_silent = "redis" in silent
    with ThreadPoolExecutor(8) as callers:
        for _ in range(2):
            callers.submit(call, "POST", "/v1/predictions", json=body)
            for path in ("/v1/predictions", "/v1/auth/tokens", "/health"):
                callers.submit(call, "GET", path)
        wait_until(lambda: httpx.get(f"{url}/health/live").status_code == 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_SECONDS) == 0
