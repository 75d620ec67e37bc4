"""Telling processes apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inference_operator.local import procfs


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(argv, env={"MARK": "one of a kind"})
    yield process
    process.kill()
    process.wait()


def test_an_identity_is_a_process_own(sleeper: subprocess.Popen[bytes]) -> None:
    identity = procfs.identity(sleeper.pid)
    assert identity is not None
    assert identity == procfs.identity(sleeper.pid)
    assert identity != procfs.identity(os.getpid())


def test_the_dead_have_none(
    sleeper: subprocess.Popen[bytes], wait_until: Callable[..., Any]
) -> None:
    sleeper.kill()
    wait_until(lambda: procfs.identity(sleeper.pid) is None)  # A zombie: nobody has waited yet.
    assert procfs.started(sleeper.pid) is None
    sleeper.wait()
    assert procfs.identity(sleeper.pid) is None


def test_when_a_process_started(sleeper: subprocess.Popen[bytes]) -> None:
    started = procfs.started(sleeper.pid)
    assert started is not None
    assert 0 <= time.monotonic() - started < 30


def test_a_process_is_found_by_its_environment(
    sleeper: subprocess.Popen[bytes], wait_until: Callable[..., Any]
) -> None:
    wait_until(lambda: procfs.find("MARK", "one of a kind") == sleeper.pid)
    assert procfs.find("MARK", "one of") is None
