"""The process as it is started."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import dispatch_process
import psutil
import pytest
from sqlalchemy import text

from inference_contract import queues
from inference_gateway.background import progress

ARGV = dispatch_process.ARGV
PATIENT = [
    *(sys.executable, "-c"),
    "from inference_gateway.dispatch import __main__ as process; import os;"
    " process._STOP_SECONDS = 60; os._exit(process.main())",
]
"""That waits longer for its loops than a slow machine takes."""


@pytest.fixture
def environment(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return dispatch_process.environment(database_url, redis_url, tmp_path, SWEEP_SECONDS="0.2")


@pytest.fixture
def start(
    environment: dict[str, str], tmp_path: Path, wait_until: Callable[..., Any]
) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], str]]]:
    processes = []

    def run() -> tuple[subprocess.Popen[bytes], str]:
        state = tmp_path / "state.json"
        state.unlink(missing_ok=True)
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(ARGV, env=environment, cwd=tmp_path, stderr=log)
        processes.append(process)
        wait_until(state.exists)
        content = json.loads(state.read_text())
        assert content["pid"] == process.pid
        return process, f"http://127.0.0.1:{content['port']}"

    yield run
    for process in processes:
        process.kill()
        process.wait()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_records_and_stops(start: Any, lab: Any, wait_until: Any, tmp_path: Path) -> None:
    process, url = start()
    prediction = lab.insert(webhook="https://example.invalid/", age=0)
    lab.enqueue(prediction)
    job = lab.claim()
    lab.finish(job)
    wait_until(lambda: lab.row(prediction)["status"] == "succeeded")
    assert get(f"{url}/health/live") == (200, "ok\n")
    wait_until(lambda: get(f"{url}/health/ready") == (200, "ok\n"))
    assert "inference_recorded_total 1.0" in get(f"{url}/metrics")[1]
    assert 'inference_loop_stalled_seconds{loop="recorder"}' in get(f"{url}/metrics")[1]
    wait_until(lambda: lab.redis.zcard(progress.KEY) == len(progress.LOOPS))
    scores = lab.redis.zrange(progress.KEY, 0, -1, withscores=True)
    assert progress.stalled(scores, lab.redis.time()) == {}
    process.terminate()
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["process"] for line in lines} == {"dispatch"}


def test_a_signal_that_comes_while_threads_start_is_heard(start: Any) -> None:
    process, url = start()
    asked = threading.Semaphore(0)

    def ask() -> None:  # The process starts a thread for each request.
        with suppress(OSError):
            while process.poll() is None:
                get(f"{url}/health/live")
                asked.release()

    with ThreadPoolExecutor(2) as callers:
        for _ in range(2):
            callers.submit(ask)
        for _ in range(50):
            asked.acquire(timeout=20)
        process.terminate()
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_round_under_way_at_the_signal_is_ended(
    start: Any, lab: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ARGV", PATIENT)
    process, _ = start()
    prediction = lab.insert(age=0)
    lab.enqueue(prediction)
    waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with lab.engine.begin() as another:
        another.execute(text("SELECT FROM predictions FOR UPDATE"))
        lab.finish(lab.claim())
        wait_until(lambda: lab.sql(waits))
        before = threads(process)
        process.terminate()
        wait_until(lambda: threads(process) < before)  # the loops that pause have ended
    assert process.wait(60) == 0
    assert lab.row(prediction)["status"] == "succeeded"
    # PostgreSQL writes what it was asked for all the same: what the round does next tells.
    events = queues.events_key(queues.model_key("ada/echo"))
    assert lab.redis.xpending(events, queues.RECORDER_GROUP)["pending"] == 0


def threads(process: subprocess.Popen[bytes]) -> int:
    return int(psutil.Process(process.pid).num_threads())


def test_the_feeder_goes_by_the_budget_of_the_settings(
    environment: dict[str, str], start: Any, lab: Any, wait_until: Any
) -> None:
    held = [lab.insert(age=0) for _ in range(3)]
    lab.sql("UPDATE predictions SET held = true, input_bytes = 300")
    environment["QUEUED_BYTES_PER_ACCOUNT"] = "1000"
    start()
    wait_until(lambda: lab.redis.exists(queues.HELD))
    assert lab.redis.hgetall(queues.HELD) == {b"ada_echo": b"2"}
    assert lab.queued() == [min(held)]


def test_killed_and_started_again_it_goes_on(start: Any, lab: Any, wait_until: Any) -> None:
    first, _ = start()
    predictions = [lab.insert(age=0) for _ in range(50)]
    lab.enqueue(*predictions)
    while (job := lab.claim()) is not None:
        lab.finish(job)
        if job["id"] == predictions[25]:
            first.kill()
    start()
    open_rows = "SELECT FROM predictions WHERE status <> 'succeeded'"
    wait_until(lambda: not lab.sql(open_rows))


def test_it_is_small(start: Any, lab: Any, wait_until: Any) -> None:
    process, url = start()
    wait_until(lambda: get(f"{url}/health/ready")[0] == 200)
    assert psutil.Process(process.pid).memory_info().rss < 80 * 2**20


def test_it_may_open_as_many_files_as_the_machine_allows(start: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        process, _ = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_server_that_is_away_is_not_the_end(
    start: Any, environment: dict[str, str], wait_until: Any
) -> None:
    environment["REDIS_URL"] = "redis://127.0.0.1:1"
    process, url = start()
    wait_until(lambda: get(f"{url}/health/ready")[0] == 503)
    assert get(f"{url}/health/live")[0] == 200
    assert "recorder" in get(f"{url}/health/ready")[1]
    process.terminate()
    assert process.wait(60) == 0


def test_a_loop_that_gets_nothing_done_says_for_how_long(
    start: Any, environment: dict[str, str], lab: Any, wait_until: Any
) -> None:
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    start()

    def silence() -> float:
        seconds, _ = lab.redis.time()
        return float(seconds - (lab.redis.zscore(progress.KEY, "sweeper") or seconds))

    wait_until(lambda: silence() > 3)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", None, "DATABASE_URL is not set"),
        ("LEASE_SECONDS", "soon", "LEASE_SECONDS"),
        ("SECRET_KEY", "changeme", "SECRET_KEY"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(
    environment: dict[str, str], tmp_path: Path, name: str, value: str | None, words: str
) -> None:
    environment.pop(name, None)
    if value is not None:
        environment[name] = value
    done = subprocess.run(ARGV, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment["METRICS_PORT"] = str(taken.getsockname()[1])
        done = subprocess.run(ARGV, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "set METRICS_HOST and METRICS_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
