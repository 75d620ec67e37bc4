"""`python -m inference_operator.local` as a process: it may die, its runners do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference_contract.inferencemodel import Reason
from inference_operator.local import operator as local

MAX_RESIDENT_KIB = 50 * 1024


class Started:
    def __init__(self, machine: Any, *arguments: str, **env: str) -> None:
        self.state_file = machine.home / "operator.json"
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        self.state_file.unlink(missing_ok=True)
        self.log = machine.home / "operator.log"
        environment = {
            "PATH": os.environ["PATH"],
            "INFERENCE_HOME": str(machine.home),
            "REDIS_URL": machine.redis_url,
            "STATE_FILE": str(self.state_file),
            "METRICS_PORT": "0",
            "LOCAL_TICK_SECONDS": "0.05",
            **env,
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference_operator.local", *arguments],
                env=environment,
                cwd=machine.home,
                stderr=output,
            )

    def get(self, path: str) -> tuple[int, str]:
        port = json.loads(self.state_file.read_text())["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()


@pytest.fixture
def operate(machine: Any) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start(*arguments: str, **env: str) -> Started:
        started.append(Started(machine, *arguments, **env))
        return started[-1]

    yield start
    for operator in started:
        operator.process.kill()
        operator.process.wait()


def _is_ready(machine: Any) -> Callable[[], bool]:
    return lambda: machine.status().ready_replicas == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_runners_outlive_their_operator_and_are_adopted(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any], number: int
) -> None:
    machine.apply(minReplicas=1)
    first = operate()
    wait_until(_is_ready(machine))
    (pid,) = machine.pids()
    first.process.send_signal(number)
    assert first.process.wait(10) == (-9 if number == signal.SIGKILL else 0)
    os.kill(pid, 0)

    operate()
    wait_until(lambda: "adopted runner" in first.log.read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: machine.pids() not in ([], [pid]) and _is_ready(machine)())


def test_stop_runners_ends_all_and_leaves_nothing(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any]
) -> None:
    machine.apply(minReplicas=2, maxReplicas=2)
    first = operate()
    wait_until(lambda: machine.status().ready_replicas == 2)
    pids = machine.pids()
    first.process.terminate()
    first.process.wait(10)
    assert operate("--stop-runners").process.wait(20) == 0
    assert not list((machine.home / "run" / "runners").iterdir())
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def test_stop_runners_kills_who_does_not_go(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any]
) -> None:
    machine.apply("stay", minReplicas=1)
    first = operate()
    wait_until(_is_ready(machine))
    first.process.kill()
    first.process.wait()
    assert operate("--stop-runners", "--grace", "0.2").process.wait(20) == 0
    assert not machine.pids()


def test_health_and_metrics(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any]
) -> None:
    machine.apply("fail", minReplicas=1)
    operator = operate()
    wait_until(machine.says(Reason.LOAD_FAILED))
    assert operator.get("/health/live")[0] == 200
    assert operator.get("/health/ready")[0] == 200
    metrics = operator.get("/metrics")[1]
    assert 'inference_operator_replicas{model="alice/m",state="Ready"} 0.0' in metrics
    failed = 'inference_operator_runner_failures_total{model="alice/m",reason="LoadFailed"}'
    assert failed in metrics
    assert "inference_operator_tick_seconds_count" in metrics


def test_a_second_operator_of_a_home_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LOCK_PATIENCE", 0.1)
    with (
        local.only_one(tmp_path),
        pytest.raises(SystemExit, match="another operator works on"),
        local.only_one(tmp_path),
    ):
        pass
    with local.only_one(tmp_path):
        pass


def test_logs_are_json_lines_that_name_the_model(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any]
) -> None:
    machine.apply(minReplicas=1)
    operator = operate()
    wait_until(_is_ready(machine))
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert {line["process"] for line in lines} == {"operator"}
    started = next(line for line in lines if line["event"].startswith("started runner"))
    assert started["model"] == "alice/m"


def test_without_settings_it_says_which(machine: Any) -> None:
    machine.home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "inference_operator.local"],
        env={},
        cwd=machine.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "INFERENCE_HOME is not set (Folder of" in done.stderr
    assert "REDIS_URL is not set (redis:" in done.stderr


def test_it_is_small(
    machine: Any, operate: Callable[..., Started], wait_until: Callable[..., Any]
) -> None:
    """Nothing of Kubernetes, no client library of Redis: see loads.py."""
    machine.apply(minReplicas=1)
    operator = operate()
    wait_until(_is_ready(machine))
    assert psutil.Process(operator.process.pid).memory_info().rss <= MAX_RESIDENT_KIB * 1024
