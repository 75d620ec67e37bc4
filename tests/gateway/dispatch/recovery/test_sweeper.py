from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference_contract import queues
from inference_gateway.dispatch import metrics

END_LEASE = "UPDATE predictions SET lease_until = now() - interval '1 second'"


def run(lab: Any, crashes: int = 0, **columns: Any) -> str:
    """A prediction that a runner has begun."""
    prediction: str = lab.insert(webhook="https://example.com/", **columns)
    lab.enqueue(prediction)
    lab.send("started", lab.claim())
    lab.record()
    lab.sql("UPDATE predictions SET crashes = :crashes", crashes=crashes)
    return prediction


def test_a_silent_runner_loses_its_work(lab: Any) -> None:
    prediction = run(lab)
    lab.send("output", prediction, output="partial")
    lab.record()
    lab.sql(END_LEASE)
    lab.sweeper().step()
    row = lab.row(prediction)
    assert (row["status"], row["attempt"], row["crashes"]) == ("starting", 2, 1)
    assert (row["started_at"], row["lease_until"], row["output"]) == (None, None, None)
    assert lab.queued() == [prediction]


def test_its_result_is_stale_then(lab: Any) -> None:
    prediction = run(lab)
    lab.sql(END_LEASE)
    lab.sweeper().step()
    lab.send("succeeded", prediction, output="late")
    lab.record()
    assert lab.row(prediction)["status"] == "starting"


def test_a_lease_that_runs_is_respected(lab: Any) -> None:
    prediction = run(lab)
    lab.sweeper().step()
    assert lab.row(prediction)["status"] == "processing"


def test_a_heartbeat_that_is_not_recorded_yet_saves_the_attempt(lab: Any) -> None:
    prediction = run(lab)
    lab.sql(END_LEASE)
    lab.send("heartbeat", prediction)
    sweeper = lab.sweeper()
    sweeper.step()
    lab.record()
    sweeper.step()
    row = lab.row(prediction)
    assert (row["status"], row["attempt"]) == ("processing", 1)


@pytest.mark.parametrize("crashes", [0, 2], ids=["next attempt", "the last"])
def test_a_lease_that_was_renewed_since_the_look_saves_the_attempt_though_it_is_over(
    lab: Any, crashes: int
) -> None:
    """PostgreSQL stood still between the look and the recovery: that is no silence of a runner."""
    prediction = run(lab, crashes)
    lab.sql(END_LEASE)
    sweeper = lab.sweeper(sweep_seconds=3600)
    lab.send("heartbeat", prediction)  # Not recorded: the recovery waits.
    sweeper.step()
    lab.record()
    lab.sql("UPDATE predictions SET lease_until = now() - interval '0.1 seconds'")
    sweeper.step()
    row = lab.row(prediction)
    assert (row["status"], row["attempt"], row["crashes"]) == ("processing", 1, crashes)


def test_the_last_crash_is_the_end(lab: Any) -> None:
    prediction = run(lab, crashes=2)
    lab.sql(END_LEASE)
    lab.sweeper().step()
    row = lab.row(prediction)
    assert (row["status"], row["error_code"]) == ("failed", "runner_crashed")
    assert row["error"] == "Its runner died 3 times while running it."
    assert lab.told_of(prediction) == ["completed"]


@pytest.mark.parametrize("claimed", [False, True])
def test_past_its_deadline_it_is_canceled(lab: Any, claimed: bool) -> None:
    prediction = lab.insert(deadline=-1)
    lab.enqueue(prediction)
    job = lab.claim() if claimed else None
    lab.sweeper().step()
    row = lab.row(prediction)
    assert (row["status"], row["error_code"]) == ("canceled", "deadline_exceeded")
    assert lab.queued() == []
    assert bool(lab.redis.hget("ada_echo:cancel", prediction)) == (job is not None)


def _stream(lab: Any, prediction: str, *entries: Any, start: int = 1) -> None:
    key = queues.stream_key("ada_echo", prediction)
    for number, entry in enumerate(entries, start):
        data = entry if isinstance(entry, bytes) else orjson.dumps(entry)
        lab.redis.xadd(key, {"d": data}, id=f"1-{number}")


TEXT = [{"type": "output", "output": "a"}, {"type": "logs", "logs": "l"}]
MORE = {"type": "output", "output": "b"}
DEEP = b'{"type":"output","item":true,"output":' + b"[" * 100 + b"]" * 100 + b"}"


@pytest.mark.parametrize(
    ("entries", "start", "output", "logs"),
    [
        ([*TEXT, MORE], 1, "ab", "l"),
        ([{**MORE, "item": True}], 1, ["b"], ""),
        ([{"type": "output", "output": {"n": 1}}], 1, [{"n": 1}], ""),
        ([MORE], 2, None, ""),
        ([b"{"], 1, None, ""),
        ([DEEP], 1, None, ""),
        ([{"type": "logs", "logs": "a\0b"}], 1, None, "a\ufffdb"),
        ([], 1, None, ""),
    ],
    ids=["text", "items", "objects", "a part", "broken", "deep", "odd logs", "nothing"],
)
@pytest.mark.parametrize("why", ["deadline", "died"])
def test_what_was_streamed_stays_when_the_runner_has_no_last_word(
    lab: Any, entries: list[Any], start: int, output: Any, logs: str, why: str
) -> None:
    prediction = run(lab, crashes=2)
    _stream(lab, prediction, *entries, start=start)
    late = "UPDATE predictions SET deadline = now() - interval '1 second'"
    lab.sql(late if why == "deadline" else END_LEASE)
    lab.sweeper().step()
    row = lab.row(prediction)
    assert row["error_code"] == ("deadline_exceeded" if why == "deadline" else "runner_crashed")
    assert (row["output"], row["logs"]) == (output, logs)


def test_a_runner_is_asked_again_to_stop(lab: Any) -> None:
    prediction = run(lab)
    lab.sql("UPDATE predictions SET cancel_requested_at = now()")
    lab.sweeper().step()
    assert lab.redis.hgetall("ada_echo:cancel") == {prediction.encode(): b"1"}
    assert lab.row(prediction)["status"] == "processing"


def test_a_canceled_prediction_of_a_dead_runner_is_not_run_again(lab: Any) -> None:
    prediction = run(lab)
    lab.sql("UPDATE predictions SET cancel_requested_at = now()")
    lab.sql(END_LEASE)
    lab.sweeper().step()
    assert lab.row(prediction)["status"] == "canceled"


def test_two_sweepers_count_one_crash(lab: Any) -> None:
    prediction = run(lab)
    lab.sql(END_LEASE)
    lab.keep_waiting()
    lab.race([lab.sweeper(sweep_seconds=3600) for _ in range(2)], prediction)
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 1)


def test_the_oldest_open_prediction_is_measured(lab: Any) -> None:
    lab.insert(age=100)
    lab.insert(age=5)
    lab.sweeper().step()
    samples = {
        (s.name, *s.labels.values()): s.value
        for gauge in (metrics.OPEN, metrics.OLDEST)
        for family in gauge.collect()
        for s in family.samples
    }
    assert 100 <= samples["inference_oldest_open_prediction_seconds",] < 110
    assert samples["inference_open_predictions", "starting"] == 2
