"""What a model's code prints while predictions run are their logs: real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference_runner.prints import MAX_LOG_BYTES, Prints

Start = Callable[..., Any]
WaitUntil = Callable[..., Any]


@pytest.fixture
def ready(runner: Start, wait_until: WaitUntil) -> Start:
    def start(class_name: str, **more: Any) -> Any:
        engine = {"className": f"hostile:{class_name}"}
        source = {"path": str(Path(__file__).parent / "models")}
        process = runner({"type": "custom", "source": source, "engine": engine, **more})
        wait_until(process.is_ready)
        return process

    return start


def test_all_that_is_printed_is_in_the_predictions_logs_and_in_the_runners(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One")
    queue.put_one("a", do="print")
    logs = wait_until(lambda: queue.end("a"))["logs"]
    lines = {
        *("from print", "from\N{REPLACEMENT CHARACTER}stderr", "WARNING: from logging"),
        *(
            "from C \N{REPLACEMENT CHARACTER}",
            "from a child",
            "from a thread",
            "of a fork",
            "100 %",
        ),
    }
    assert set(logs.splitlines()) == lines
    wait_until(lambda: all(t in process.log for t in ("from print", "from a child", "from C")))


def test_nothing_is_printed_for_another_prediction(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    ready("One")
    queue.put(queue.job("a", do="print"), queue.job("b", do="well"))
    assert "logs" not in wait_until(lambda: queue.end("b"))


def test_a_batch_shares_its_logs(ready: Start, queue: Any, wait_until: WaitUntil) -> None:
    queue.put(queue.job("a", do="say", text="one"), queue.job("b", do="say", text="two"))
    ready("Many")
    assert wait_until(lambda: queue.end("b"))["logs"] == "one\ntwo\n"
    assert queue.end("a")["logs"] == "one\ntwo\n"


@pytest.mark.parametrize("class_name", ["One", "Stream"])
def test_logs_are_told_while_the_prediction_runs(
    ready: Start, queue: Any, wait_until: WaitUntil, class_name: str
) -> None:
    ready(class_name)
    queue.put_one("a", do="say", text="hello", seconds=30)
    wait_until(lambda: {"type": "logs", "logs": "hello\n"} in queue.stream("a"), timeout=10)
    wait_until(lambda: [e["logs"] for e in queue.events("a") if e["type"] == "logs"] == ["hello\n"])
    assert queue.end("a") is None


def test_a_failure_keeps_what_was_printed_before_its_traceback(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    ready("One")
    queue.put_one("a", do="say", text="hello", seconds="not a number")
    logs = wait_until(lambda: queue.end("a"))["logs"].splitlines()
    assert (logs[0], logs[1]) == ("hello", "Traceback (most recent call last):")
    assert logs[-1].startswith("TypeError: ")


def test_of_a_flood_the_end_is_kept(ready: Start, queue: Any, wait_until: WaitUntil) -> None:
    ready("One")
    queue.put_one("a", do="flood")
    logs = wait_until(lambda: queue.end("a"))["logs"]
    assert len(logs) <= MAX_LOG_BYTES + 100
    assert logs.endswith("line 99999\n")
    assert logs.splitlines()[0].endswith("bytes before this are not kept]")


def test_a_progress_bar_is_its_last_state() -> None:
    prints = Prints()
    prints.add("begin\n")
    assert prints.news() == "begin\n"
    for percent in range(5):
        prints.add(f"\r{percent} %")
    assert prints.news() == "\r4 %"
    prints.add("\nwindows\r\n")
    assert prints.text == "begin\n4 %\nwindows\r\n"
