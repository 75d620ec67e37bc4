"""Whatever a model's code does ends its own prediction, and nobody else's: real processes."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inference_contract import queues
from inference_contract.pods import RunnerExit

KEY = "ann_sample"
Start = Callable[..., Any]
WaitUntil = Callable[..., Any]


def spec(class_name: str, **more: Any) -> dict[str, Any]:
    folder = Path(__file__).parent / "models"
    engine = {"className": f"hostile:{class_name}"}
    return {"type": "custom", "source": {"path": str(folder)}, "engine": engine, **more}


@pytest.fixture
def ready(runner: Start, wait_until: WaitUntil) -> Start:
    def start(class_name: str, environ: dict[str, str] | None = None, **more: Any) -> Any:
        process = runner(spec(class_name, **more), **(environ or {}))
        wait_until(process.is_ready)
        return process

    return start


def still_works(process: Any, queue: Any, wait_until: WaitUntil) -> None:
    queue.put_one("after", do="well")
    assert wait_until(lambda: queue.end("after"))["type"] == "succeeded"
    assert process.popen.poll() is None


RAISED = {
    "CancelledError": "CancelledError",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "SystemExit": "SystemExit",
    "GeneratorExit": "GeneratorExit",
    "Panic": "Panic",
    "Unspeakable": "Unspeakable: <its message raised RuntimeError>",
    "MemoryError": "MemoryError",
    "StopIteration": "StopIteration",
}


@pytest.mark.parametrize("class_name", ["One", "Many", "Async"])
def test_whatever_is_raised_is_the_predictions_failure(
    ready: Start, queue: Any, wait_until: WaitUntil, class_name: str
) -> None:
    process = ready(class_name)
    for name in (*RAISED, "dive"):
        queue.put_one(f"p-{name}", do=name)
    still_works(process, queue, wait_until)
    for name, message in RAISED.items():
        end = queue.end(f"p-{name}")
        if (class_name, name) == ("Async", "StopIteration"):  # Python makes a RuntimeError of it
            message = "RuntimeError: coroutine raised StopIteration"
        assert (end["type"], end["error_code"]) == ("failed", "model_error")
        assert end["error"] == message
        assert name == "StopIteration" or "act(" in end["logs"]
        assert f'"prediction": "p-{name}"' in process.log
    assert queue.end("p-dive")["error"].startswith("RecursionError: ")


@pytest.mark.parametrize("name", ["CancelledError", "KeyboardInterrupt", "Panic"])
def test_whatever_a_generator_raises_is_the_predictions_failure(
    ready: Start, queue: Any, wait_until: WaitUntil, name: str
) -> None:
    process = ready("Stream")
    queue.put_one("a", do=name)
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], end["error"]) == ("failed", name)
    still_works(process, queue, wait_until)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_returns(
    ready: Start, queue: Any, wait_until: WaitUntil, method: str
) -> None:
    process = ready("One")
    queue.put_one("a", do="pool", method=method)
    assert wait_until(lambda: queue.end("a"), timeout=30)["output"] == [0, 2, 4, 6]
    still_works(process, queue, wait_until)


def test_a_forked_child_dies_of_a_signal_and_says_nothing_of_the_runner(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One")
    queue.put_one("a", do="terminate")
    assert wait_until(lambda: queue.end("a"))["output"] == -signal.SIGTERM
    assert process.state["phase"] == "Ready"


def test_a_forked_child_has_none_of_the_runners_sockets(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    """Neither those to Redis nor the probes' port."""
    ready("One")
    queue.put_one("a", do="sockets")
    mine, its = wait_until(lambda: queue.end("a"))["output"]
    assert len(mine) >= 3
    assert its == []


def test_a_forked_child_that_comes_back_is_no_second_runner(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One")
    queue.put_one("a", do="fork")
    still_works(process, queue, wait_until)
    said = [event["type"] for event in queue.events("a")]
    assert said[-1] == "succeeded"
    assert said.count("succeeded") == 1


def test_a_runner_whose_files_are_closed_says_the_end_and_is_replaced(
    ready: Start, queue: Any
) -> None:
    process = ready("One")
    queue.put(queue.job("a", do="close"), queue.job("b", do="well"))
    assert process.popen.wait(20) == RunnerExit.BROKEN
    assert queue.end("a")["type"] == "succeeded"
    assert "closed the runner's file descriptors" in process.log
    assert queue.events("b") == []


def test_what_code_breaks_is_mended(ready: Start, queue: Any, wait_until: WaitUntil) -> None:
    process = ready("One")
    queue.put_one("a", do="break")
    assert wait_until(lambda: queue.end("a"))["type"] == "succeeded"
    still_works(process, queue, wait_until)
    queue.put_one("said", do="say", text="heard")
    assert wait_until(lambda: queue.end("said")).get("logs") == "heard\n"
    queue.put_one("b", do="sleep")
    wait_until(lambda: queue.events("b"))
    queue.cancel("b")
    assert wait_until(lambda: queue.end("b"))["type"] == "canceled"
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == RunnerExit.OK
    assert '"event": "stopped"' in process.log


@pytest.mark.parametrize(
    ("class_name", "do"),
    [
        *(("One", do) for do in ("sleep", "lock", "child", "swallow")),
        *(("Many", "sleep"), ("Stream", "sleep"), ("Async", "sleep")),
    ],
)
def test_a_canceled_prediction_is_stopped(
    ready: Start, queue: Any, wait_until: WaitUntil, class_name: str, do: str
) -> None:
    process = ready(class_name)
    queue.put_one("a", do=do)
    wait_until(lambda: queue.events("a"))
    queue.cancel("a")
    end = wait_until(lambda: queue.end("a"), timeout=5)
    assert end["type"] == "canceled"
    assert ("output" in end) == (class_name == "Stream")
    if do == "swallow":
        assert process.popen.wait(10) == RunnerExit.STOPPED
    else:
        still_works(process, queue, wait_until)
    wait_until(lambda: not queue.leftovers())


def test_a_canceled_member_of_a_batch_leaves_the_others_their_results(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    queue.put(queue.job("a", do="sleep", seconds=2), queue.job("b", do="well"))
    process = ready("Many")
    wait_until(lambda: queue.events("a"))
    queue.cancel("a")
    assert wait_until(lambda: queue.end("a"))["type"] == "canceled"
    assert queue.end("b") is None
    assert wait_until(lambda: queue.end("b"))["output"] == "well"
    still_works(process, queue, wait_until)


def test_a_prediction_past_its_time_is_stopped(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One", timeouts={"predictSeconds": 1})
    queue.put_one("a", do="lock")
    assert wait_until(lambda: queue.end("a"))["error_code"] == "prediction_timeout"
    still_works(process, queue, wait_until)


def test_of_a_batch_past_its_time_only_the_culprit_fails(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    queue.put(queue.job("a", do="sleep"), queue.job("b", do="well"))
    process = ready("Many", timeouts={"predictSeconds": 1})
    assert wait_until(lambda: queue.end("b"))["output"] == "well"
    assert queue.end("a")["error_code"] == "prediction_timeout"
    still_works(process, queue, wait_until)


def test_code_that_keeps_pythons_lock_ends_the_process(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One", {"RUNNER_LEASE_SECONDS": "2"})
    queue.put_one("a", do="gil")
    assert process.popen.wait(20) == RunnerExit.HUNG
    assert re.search(r'hostile.py", line \d+ in act', process.log)


def test_a_second_try_gets_the_inputs_as_they_came(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    queue.put(queue.job("a", do="mark", mark=1), queue.job("b", do="Panic", mark=2))
    ready("Many")
    assert wait_until(lambda: queue.end("a"))["output"] == 1
    assert wait_until(lambda: queue.end("b"))["error"] == "Panic"


def test_a_batch_too_large_for_the_memory_is_done_in_parts(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    queue.put(*(queue.job(f"p{n}", do="x") for n in range(8)))
    ready("Small")
    ends = wait_until(lambda: all(e := [queue.end(f"p{n}") for n in range(8)]) and e)
    assert [end["output"] for end in ends] == [2] * 8


def test_items_are_as_they_were_when_they_were_yielded(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    ready("Stream")
    queue.put_one("a", do="well")
    items = [{"n": 0}, {"n": 1}, {"n": 2}, None, "end"]
    assert wait_until(lambda: queue.end("a"))["output"] == items
    assert [e["output"] for e in queue.stream("a") if e["type"] == "output"] == items


def test_an_asynchronous_generator_streams(ready: Start, queue: Any, wait_until: WaitUntil) -> None:
    ready("AsyncStream")
    queue.put_one("a", seconds=0)
    assert wait_until(lambda: queue.end("a"))["output"] == [0, 1, 2]


def test_a_broken_device_ends_the_process_after_its_culprit(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("Device")
    queue.put(queue.job("a", do="break"), queue.job("b", do="well"))
    assert process.popen.wait(20) == RunnerExit.BROKEN
    assert "device-side assert" in queue.end("a")["error"]
    assert queue.events("b") == []
    assert queue.client.llen(queues.queue_key(KEY)) == 1


def test_of_a_batch_that_broke_the_device_each_is_given_back_as_a_suspect(
    runner: Start, queue: Any
) -> None:
    queue.put(queue.job("a", do="break"), queue.job("b", do="well"))
    process = runner(spec("Devices"))
    assert process.popen.wait(20) == RunnerExit.BROKEN
    for name in "ab":
        said = queue.events(name)[-1]
        assert (said["type"], said["suspect"]) == ("returned", True)
    assert queue.leftovers() == []


def test_what_waits_behind_code_that_does_not_stop_is_given_back_and_not_blamed(
    runner: Start, queue: Any, wait_until: WaitUntil
) -> None:
    jobs = queue.job("a", do="swallow"), queue.job("b", do="well"), queue.job("c", do="Panic")
    queue.put(*jobs)
    process = runner(spec("Quick"))  # whose batches raise, so that each runs alone
    wait_until(lambda: queue.events("a"), timeout=30)
    queue.cancel("a")
    assert process.popen.wait(20) == RunnerExit.STOPPED
    assert queue.end("a")["type"] == "canceled"
    for name in "bc":
        said = queue.events(name)[-1]
        assert (said["type"], said.get("suspect")) == ("returned", None)
    assert queue.leftovers() == []


def test_what_a_crash_printed_last_is_in_the_log(ready: Start, queue: Any) -> None:
    process = ready("One")
    queue.put_one("a", do="abort")
    assert process.popen.wait(20) == -signal.SIGABRT
    assert "the last words\n" in process.log
    assert re.search(r'hostile.py", line \d+ in act', process.log)


def test_nothing_that_was_started_outlives_the_runner(
    ready: Start, queue: Any, wait_until: WaitUntil
) -> None:
    process = ready("One")
    queue.put_one("a", do="daemon")
    wait_until(lambda: queue.end("a"))
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == RunnerExit.OK
    assert not _children_of(str(process.state_file))


def _children_of(marker: str) -> list[str]:
    """Processes that have this runner's environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found
