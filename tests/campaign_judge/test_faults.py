"""A fault of a campaign is over when what it did is done: the next one is not blamed for it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from faults import DISTURBING, NotNow
from inference_operator.local import procfs

_ENDS_SLOWLY = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(0)))
print(flush=True)
signal.pause()
"""


class _Stack:
    def __init__(self, pid: int) -> None:
        self._pid = pid

    def pids(self) -> dict[str, int]:
        return {"gateway": self._pid, "valkey": self._pid}


class _World:
    """A world that has one process."""

    def __init__(self, pid: int, home: Path) -> None:
        self.stack = _Stack(pid)
        self.home = home

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, what
            time.sleep(0.01)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """One that takes its time to end."""
    command = [sys.executable, "-c", _ENDS_SLOWLY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@pytest.mark.parametrize("name", ["gateway stopped", "gateway killed"])
def test_what_was_told_to_end_has_ended(
    name: str, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    world: Any = _World(process.pid, tmp_path)
    with DISTURBING[name](world, random.Random(1)):
        pass
    assert procfs.identity(process.pid) is None


def test_what_is_never_asked_is_not_unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faults._ASKED_WITHIN", 0.01)
    told: list[object] = []
    database = SimpleNamespace(lost=0, lose_answer_to=told.append, refuse=told.append)
    world: Any = SimpleNamespace(database=database)
    with (
        pytest.raises(NotNow, match="EXECUTE record"),
        DISTURBING["a record unheard"](world, random.Random(1)),
    ):
        pass
    assert told[1:] == [None, False]


def test_redis_loses_its_file_before_it_ends(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    file = tmp_path / "valkey" / "appendonlydir" / "appendonly.aof"
    file.parent.mkdir(parents=True)
    file.touch()
    world: Any = _World(process.pid, tmp_path)
    with DISTURBING["redis without its file"](world, random.Random(1)):
        assert not file.parent.exists()
    assert process.wait() == -signal.SIGKILL
