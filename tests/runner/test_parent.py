"""A runner that dies of what it runs is followed by another one in the same process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_contract.pods import RunnerExit

Start = Callable[..., Any]
WaitUntil = Callable[..., Any]
DEATHS: list[dict[str, Any]] = [
    {"do": "exit"},
    {"do": "exit", "code": 0},
    {"do": "exit", "code": RunnerExit.LOAD_FAILED},
    {"do": "abort"},
    {"do": "segfault"},
    {"do": "kill"},
]


@pytest.fixture
def ready(runner: Start, wait_until: WaitUntil) -> Start:
    folder = Path(__file__).parent / "models"

    def start(class_name: str = "One", **parameters: str) -> Any:
        engine = {"className": f"hostile:{class_name}", "parameters": parameters}
        document = {"type": "custom", "source": {"path": str(folder)}, "engine": engine}
        process = runner(document, RUNNER_REPLACES_ITSELF="true")
        wait_until(process.is_ready)
        return process

    return start


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: "-".join(map(str, death.values())))
def test_what_waits_behind_a_prediction_that_kills_is_run(
    ready: Start, queue: Any, wait_until: WaitUntil, death: dict[str, Any]
) -> None:
    process = ready()
    first = process.state["pid"]
    queue.put(queue.job("a", **death), queue.job("b", do="well"))
    assert wait_until(lambda: queue.end("b"))["type"] == "succeeded"
    assert process.popen.poll() is None
    assert process.state["pid"] != first
    # The one that killed is nobody's: its lease ends, and it counts as a crash.
    assert queue.end("a") is None
    [claim] = [name for name in queue.leftovers() if b"a_1" in name and b":" in name[8:]]
    assert claim
    assert "and is started anew" in process.log
    if death["do"] == "abort":
        assert "the last words\n" in process.log
        assert "Fatal Python error: Aborted" in process.log


def test_it_is_not_ready_until_the_next_one_is(
    ready: Start, queue: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    process = ready("Anew", mark=str(tmp_path / "mark"), second="sleep")
    assert process.state["phase"] == "Ready"
    queue.put_one("a", do="exit")
    wait_until(lambda: process.state["phase"] == "Loading")
    queue.put_one("b", do="well")
    process.popen.send_signal(signal.SIGTERM)
    # It takes a moment until the new one has its handlers.
    assert process.popen.wait(20) in (RunnerExit.OK, -signal.SIGTERM)
    assert queue.events("b") == []


def test_one_that_cannot_load_again_is_not_followed(
    ready: Start, queue: Any, tmp_path: Path
) -> None:
    process = ready("Anew", mark=str(tmp_path / "mark"), second="well")
    queue.put_one("a", do="exit")
    assert process.popen.wait(20) == RunnerExit.LOAD_FAILED
    assert process.state["message"] == "RuntimeError: it loads once"


def test_one_that_dies_before_it_is_ready_is_not_followed(
    ready: Start, queue: Any, tmp_path: Path
) -> None:
    process = ready("Anew", mark=str(tmp_path / "mark"), second="abort")
    queue.put_one("a", do="exit")
    assert process.popen.wait(20) == -signal.SIGABRT


def test_one_that_was_told_to_stop_is_not_followed(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready()
    queue.put_one("a", do="sleep", seconds=3600)
    wait_until(lambda: queue.events("a"))
    process.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: process.state["phase"] == "Draining")
    os.kill(process.state["pid"], signal.SIGKILL)
    assert process.popen.wait(20) == -signal.SIGKILL


def test_deaths_in_a_row_take_seconds_in_which_it_lives_and_that_end_when_it_is_told(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready()
    for number in range(3):
        queue.put_one(f"a{number}", do="exit")
        wait_until(lambda: process.log.count("started anew") == number + 1)  # noqa: B023
    queue.put_one("b", do="well")
    assert wait_until(lambda: queue.end("b"))
    queue.put_one("c", do="exit")
    wait_until(lambda: process.log.count("started anew") == 4)  # a pause of four seconds
    port = wait_until(lambda: process.state["port"])
    url = f"http://127.0.0.1:{port}/health"
    assert (httpx.get(f"{url}/live").status_code, httpx.get(f"{url}/ready").text) == (
        200,
        "Loading\n",
    )
    assert process.log.count('"loading"') == 4  # not again yet
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == RunnerExit.OK
