"""What a model's code prints while predictions run are their logs: real processes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference_runner.prints import MAX_DELTA_BYTES, MAX_LOG_BYTES, Prints

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


def test_news_are_told_once() -> None:
    prints = Prints()
    assert not prints.has_news
    prints.add("a")
    prints.add("b\0")
    assert prints.has_news
    assert prints.news() == "ab\N{REPLACEMENT CHARACTER}"
    assert not prints.has_news
    assert prints.news() == ""
    assert prints.text == "ab\N{REPLACEMENT CHARACTER}"


def test_of_many_news_the_end_is_told_with_what_is_missing() -> None:
    prints = Prints()
    prints.add("x" * MAX_DELTA_BYTES)
    assert prints.news() == "x" * MAX_DELTA_BYTES
    prints.add("x" * MAX_DELTA_BYTES + "\n")
    kept = "x" * (MAX_DELTA_BYTES - 1) + "\n"
    assert prints.news() == f"[1 bytes before this are not kept]\n{kept}"


def test_news_that_were_dropped_before_they_were_told_are_counted_once() -> None:
    prints = Prints()
    lines = "".join(f"{number:09}\n" for number in range(30_000))
    for start in range(0, len(lines), 7000):
        prints.add(lines[start : start + 7000])
    missing = len(lines) - MAX_DELTA_BYTES
    kept = lines[-MAX_DELTA_BYTES:]
    assert prints.news() == f"[{missing} bytes before this are not kept]\n{kept}"
    prints.add("x")
    assert prints.news() == "x"


def test_however_much_is_printed_takes_bounded_memory() -> None:
    prints = Prints()
    tracemalloc.start()
    try:
        for number in range(2000):
            prints.add(f"{number:09}\n" * 500)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * MAX_LOG_BYTES


def test_what_is_overwritten_is_not_told() -> None:
    prints = Prints()
    prints.add("a\rb")
    assert prints.news() == "b"


def test_half_of_a_surrogate_pair_in_a_flood_does_no_harm() -> None:
    prints = Prints()
    prints.add("\ud800" + "x" * MAX_DELTA_BYTES)
    assert prints.news() == "[1 bytes before this are not kept]\n" + "x" * MAX_DELTA_BYTES


def test_no_character_is_cut_in_two() -> None:
    prints = Prints()
    prints.add("a" + "é" * (MAX_DELTA_BYTES // 2) + "b")
    kept = "é" * (MAX_DELTA_BYTES // 2 - 1) + "b"
    assert prints.news() == f"[2 bytes before this are not kept]\n{kept}"


def test_of_much_the_end_is_kept_with_what_is_missing() -> None:
    prints = Prints()
    for number in range(30):
        prints.add(f"{number:09}\n" * 1000)
    assert prints.text == "[200000 bytes before this are not kept]\n" + "".join(
        f"{number:09}\n" * 1000 for number in range(20, 30)
    )
    prints.add("x")
    assert prints.text.startswith("[200001 bytes before this are not kept]\n00000020\n")
    assert prints.text.endswith("\nx")
