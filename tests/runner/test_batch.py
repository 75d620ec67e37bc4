"""Models that take a batch whole, or one input at a time: a worker on a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from inference_contract import queues
from inference_runner.engines.base import BaseInferenceModel

KEY = "ann_sample"
Work = Callable[..., Any]
WaitUntil = Callable[..., Any]


def test_a_success(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    work("Actor")
    queue.put_one("a", do="well")
    end = wait_until(lambda: queue.end("a"))
    assert end.pop("predict_time") < 1
    assert end == {
        "type": "succeeded",
        "id": "a",
        "attempt": 1,
        "token": "token-1",
        "output": "well",
    }
    wait_until(lambda: not queue.leftovers())


@pytest.mark.parametrize(
    ("do", "code", "error"),
    [
        ("raise", "model_error", "ValueError: I will not"),
        ("exit", "model_error", "SystemExit: 7"),
        ("not-json", "invalid_output", "Type is not JSON serializable: object"),
        ("nan", "invalid_output", "The output holds nan, which is no number of JSON."),
        ("deep", "invalid_output", "The output is nested more than 64 deep."),
        ("endless", "invalid_output", "The output is not JSON"),
        ("nul", "invalid_output", "The output holds the character U+0000."),
        ("half", "invalid_output", "The output is not JSON"),
        ("large", "output_too_large", "larger than 10000000 bytes"),
        ("refuse", "invalid_input", "text must rhyme"),
    ],
)
@pytest.mark.parametrize("class_name", ["Actor", "Batch"])
def test_a_failure_says_what_happened(
    work: Work,
    queue: Any,
    wait_until: WaitUntil,
    class_name: str,
    do: str,
    code: str,
    error: str,
) -> None:
    work(class_name)
    queue.put_one("a", do=do)
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], end["error_code"]) == ("failed", code)
    assert error in end["error"]
    assert ("I will not" in end.get("logs", "")) == (do == "raise")


def test_only_the_culprit_of_a_batch_fails(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    queue.put(*(queue.job(f"p{n}", do="raise" if n == 3 else "well") for n in range(8)))
    work("Batch")
    ends = wait_until(lambda: all(ends := [queue.end(f"p{n}") for n in range(8)]) and ends)
    assert [end["type"] for end in ends] == ["succeeded"] * 3 + ["failed"] + ["succeeded"] * 4


def test_a_batch_is_one_entry(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    queue.put(*(queue.job(f"p{n}", do="well") for n in range(8)))
    work("Batch")
    wait_until(lambda: queue.end("p7"))
    assert [len(entry) for entry in queue.entries()] == [8]


def test_a_batch_is_at_most_as_large_as_the_model_takes(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    queue.put(*(queue.job(f"p{n}", do="well") for n in range(8)))
    work("Batch", batching={"maxBatchSize": 3})
    wait_until(lambda: queue.end("p7"))
    assert [len(entry) for entry in queue.entries()] == [3, 3, 2]


def test_a_wrong_number_of_outputs_fails_all(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    queue.put(queue.job("a", do="x"), queue.job("b", do="x"))
    work("Miscounts")
    end = wait_until(lambda: queue.end("b"))
    assert end["error"] == "predict_batch returned 1 outputs for 2 inputs."


def test_a_short_run_says_only_its_end_and_a_long_one_its_start_too(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    work("Actor", lease=0.6)
    queue.put(queue.job("short", do="x"), queue.job("long", do="sleep", seconds=0.5))
    wait_until(lambda: queue.end("long"))
    assert [e["type"] for e in queue.events("short")] == ["succeeded"]
    said = [e["type"] for e in queue.events("long")]
    assert (said[0], said[-1]) == ("started", "succeeded")
    assert set(said[1:-1]) == {"heartbeat"}


def test_a_heartbeat_renews_the_lease(
    work: Work, queue: Any, redis_client: redis.Redis, wait_until: WaitUntil
) -> None:
    work("Actor", lease=0.6)
    queue.put_one("a", do="sleep", seconds=1.0)

    def lease() -> float | None:
        held: Any = redis_client.zrange(queues.in_flight_key(KEY), 0, -1, withscores=True)
        return float(held[0][1]) if held else None

    first = wait_until(lease)
    wait_until(lambda: (lease() or 0) > first + 0.3)


def test_canceled_before_it_began(work: Work, queue: Any, wait_until: WaitUntil) -> None:
    queue.put(queue.job("a", do="x"), queue.job("b", do="x"))
    queue.cancel("a")
    work("Batch")
    assert wait_until(lambda: queue.end("b"))["type"] == "succeeded"
    assert queue.end("a")["type"] == "canceled"


def test_canceled_while_it_runs(
    work: Work, queue: Any, redis_client: redis.Redis, wait_until: WaitUntil
) -> None:
    work("Actor")
    queue.put_one("a", do="sleep", seconds=1.5)
    wait_until(lambda: queue.events("a"))
    queue.cancel("a")
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], "output" in end) == ("canceled", False)
    wait_until(lambda: not redis_client.exists(queues.cancel_key(KEY)))


def test_the_result_of_a_canceled_run_is_dropped(
    work: Work, queue: Any, wait_until: WaitUntil
) -> None:
    """Its code may end before anybody was told to stop it."""

    class Late(BaseInferenceModel):
        def predict(self, inputs: dict[str, Any]) -> Any:
            for run in worker.session.mine.values():
                run.canceled = True
            return "late"

    worker = work("Actor", Late())
    queue.put_one("a", do="x")
    end = wait_until(lambda: queue.end("a"))
    assert (end["type"], "output" in end) == ("canceled", False)


def test_nothing_is_lost_when_connections_break(
    work: Work, queue: Any, redis_client: redis.Redis, wait_until: WaitUntil
) -> None:
    work("Batch")
    for n in range(20):
        queue.put(*(queue.job(f"p{n}-{m}", do="x") for m in range(10)))
        redis_client.client_kill_filter(_type="normal", skipme=True)
    names = {f"p{n}-{m}" for n in range(20) for m in range(10)}
    wait_until(lambda: {e["id"] for e in queue.events()} == names)
    wait_until(lambda: not queue.leftovers())
