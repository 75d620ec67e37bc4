"""Children: when they are started again, and what is done about orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inference_local import child_process
from inference_local.child_process import Child, ProcessSpec
from inference_operator.local import procfs


@pytest.mark.parametrize(
    ("deaths", "lived", "expected"),
    [(0, 0.01, 0.1), (1, 0.01, 0.2), (7, 1, 10.0), (8, 29.9, 10.0), (8, 30.0, 0.1)],
)
def test_backoff(
    tmp_path: Path, wait_until: Callable[..., Any], deaths: int, lived: float, expected: float
) -> None:
    child = Child(_spec(tmp_path, "true"))
    for seconds in (*[0.01] * deaths, lived):
        child.start(0.0)
        wait_until(child.is_gone)
        child.tick(seconds)
    assert child.backoff == expected


def _spec(tmp_path: Path, *argv: str, **more: Any) -> ProcessSpec:
    env = {"PATH": os.environ["PATH"]}
    return ProcessSpec("stub", list(argv), env, tmp_path / "stub.log", tmp_path, **more)


@contextmanager
def _started(spec: ProcessSpec) -> Iterator[Child]:
    child = Child(spec)
    child.start(time.monotonic())
    try:
        yield child
    finally:
        child.kill()


def test_a_child_that_was_killed_is_started_again(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with _started(_spec(tmp_path, "sleep", "60")) as child:
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        code = wait_until(lambda: child.tick(time.monotonic()))
        assert (code, child.pid, child.restarts) == (-signal.SIGKILL, None, 1)
        wait_until(lambda: child.tick(time.monotonic()) is None and child.pid)
        assert child.pid != first


def test_a_child_that_was_told_to_stop_stays_down(tmp_path: Path) -> None:
    with _started(_spec(tmp_path, "sh", "-c", "exit 1")) as child:
        while child.tick(time.monotonic()) is None:
            time.sleep(0.005)
        child.tell_to_stop()
        assert child.tick(time.monotonic() + 60) is None
        assert child.pid is None


def test_readiness_ends_the_count_of_deaths(tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    with _started(_spec(tmp_path, "sleep", "60", is_ready=lambda _: flag.exists())) as child:
        child.deaths_in_a_row = 2
        child.tick(time.monotonic())
        assert (child.ready, child.deaths_in_a_row) == (False, 2)
        flag.touch()
        child.tick(time.monotonic())
        assert (child.ready, child.deaths_in_a_row) == (True, 0)


def test_a_child_gets_its_environment_and_nothing_else(
    tmp_path: Path, wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for models")
    with _started(_spec(tmp_path, "env")):
        text = wait_until(lambda: (tmp_path / "stub.log").read_text())
    assert [line.partition("=")[0] for line in text.split()] == ["PATH"]


_PARENT = """
import sys, time
from pathlib import Path
from inference_local.child_process import ProcessSpec, spawn
folder = Path(sys.argv[1])
spec = ProcessSpec("orphan", sys.argv[2:], {"PATH": sys.argv[3]}, folder / "log", folder)
print(spawn(spec).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "wrapper", [[], ["unshare", "--user", "--map-user=1000", "--map-group=1000"]], ids=str
)
def test_children_die_with_a_killed_parent(
    wrapper: list[str], tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    source = _PARENT.replace("sys.argv[3]", repr(os.environ["PATH"]))
    argv = [sys.executable, "-c", source, str(tmp_path), *wrapper, "sleep", "60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        assert procfs.identity(orphan) is not None
        parent.kill()
    wait_until(lambda: procfs.identity(orphan) is None)


def test_leftovers_are_ended_and_strangers_with_their_numbers_are_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as leftover, subprocess.Popen(["sleep", "60"]) as other:
        records: list[dict[str, Any]] = [
            {"pid": leftover.pid, "identity": procfs.identity(leftover.pid), "stop_signal": 15},
            {"pid": other.pid, "identity": "another boot:1", "stop_signal": 15},
            {"pid": None, "identity": None, "stop_signal": 15},
        ]
        assert child_process.end_leftovers(records) == [leftover.pid]
        assert other.poll() is None
        other.kill()


def test_a_leftover_that_ignores_the_signal_is_killed(wait_until: Callable[..., Any]) -> None:
    argv = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        identity = procfs.identity(stubborn.pid)
        record = {"pid": stubborn.pid, "identity": identity, "stop_signal": 15}
        child_process.end_leftovers([record], seconds=0.1)
        assert stubborn.wait() == -signal.SIGKILL


def test_a_log_that_has_grown_large_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "MAX_LOG_BYTES", 10)
    log = tmp_path / "gateway.log"
    log.write_text("a long line\n")
    with child_process.open_log(log) as file:
        file.write(b"new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "gateway.log.1").read_text() == "a long line\n"


def _gone(pid: int) -> bool:
    return procfs.identity(pid) is None


@contextmanager
def _standing_still(child: Child, wait_until: Callable[..., Any]) -> Iterator[int]:
    """The pid of the one that a child has started itself."""
    assert child.pid is not None
    (grandchild,) = wait_until(lambda: procfs.children(child.pid or 0))
    for pid in (child.pid, grandchild):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield grandchild
    finally:
        if not _gone(grandchild):
            os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("is_server", [True, False])
def test_a_servers_children_are_killed_with_it_and_an_operators_runners_are_not(
    tmp_path: Path, wait_until: Callable[..., Any], is_server: bool
) -> None:
    spec = _spec(tmp_path, "sh", "-c", "setsid sleep 60 & wait", kills_children=is_server)
    with _started(spec) as child, _standing_still(child, wait_until) as grandchild:
        child.kill()
        if is_server:
            wait_until(lambda: _gone(grandchild))
        else:
            assert not _gone(grandchild)


def test_nor_do_they_outlive_a_supervisor_that_was_killed(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    spec = _spec(tmp_path, "sh", "-c", "setsid sleep 60 & wait", kills_children=True)
    with _started(spec) as child, _standing_still(child, wait_until) as grandchild:
        record = child.record()
        reaper = threading.Thread(target=lambda: wait_until(child.is_gone))
        reaper.start()
        child_process.end_leftovers([record], seconds=0.1)
        reaper.join()
        wait_until(lambda: _gone(grandchild))
