from __future__ import annotations

import uuid
from typing import Any

import pytest
from clock import Clock

from inference_contract import queues
from inference_gateway.dispatch.recovery import relay as relay_module


def test_a_row_that_was_never_enqueued_is_handed_out(lab: Any) -> None:
    prediction = lab.insert()
    lab.relay().step()
    row = lab.row(prediction)
    assert (row["status"], row["attempt"], row["crashes"]) == ("starting", 2, 0)
    job = lab.claim()
    assert (job["id"], job["attempt"], job["token"]) == (prediction, 2, row["token"])
    assert job["crashes"] == 0
    assert row["token"] != "token-1"


def test_a_row_that_waits_is_left_alone(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.relay().step()
    assert lab.row(prediction)["attempt"] == 1


def test_a_young_row_is_left_to_the_gateway(lab: Any) -> None:
    prediction = lab.insert(age=0)
    lab.relay().step()
    assert lab.row(prediction)["attempt"] == 1
    assert lab.queued() == []


def test_a_result_on_its_way_through_the_stream_is_waited_for(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.finish(lab.claim())
    relay = lab.relay()
    for _ in range(3):
        relay.step()
        assert lab.row(prediction)["attempt"] == 1
    lab.record()
    relay.step()
    row = lab.row(prediction)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)


def test_a_result_that_was_read_but_not_acknowledged_is_waited_for(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.finish(lab.claim())
    lab.redis.xgroup_create("ada_echo:events", "recorder", "0")
    lab.redis.xreadgroup("recorder", "one", {"ada_echo:events": ">"})
    lab.relay().step()
    assert lab.row(prediction)["attempt"] == 1


def test_a_claimed_job_with_a_lease_is_left_alone(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=30)
    lab.relay().step()
    assert lab.row(prediction)["attempt"] == 1


def test_a_runner_that_died_before_it_said_started_is_a_crash(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=-1)
    lab.relay().step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 1)
    assert lab.queued() == [prediction]
    assert lab.claim()["crashes"] == 1


def test_what_a_dead_runner_left_in_redis_is_removed(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=-1)
    relay = lab.relay()
    relay.step()
    relay.step()
    assert lab.redis.zcard(queues.in_flight_key("ada_echo")) == 0
    job = queues.job_id("ada_echo", prediction, 1)
    assert not lab.redis.exists(queues.job_key(job))


def test_leases_of_open_attempts_are_kept(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=-1)
    lab.send("started", prediction)
    lab.record()  # from now on the row's lease counts
    lab.relay().step()
    assert lab.row(prediction)["attempt"] == 1
    assert lab.redis.zcard(queues.in_flight_key("ada_echo")) == 1


def test_after_the_loss_of_redis_the_queue_is_as_it_was(lab: Any) -> None:
    predictions = [lab.insert(id=uuid.UUID(int=number)) for number in range(1, 8)]
    lab.enqueue(*predictions)
    lab.redis.flushall()
    relay = lab.relay()
    relay.step()
    assert lab.queued() == predictions
    assert {row["attempt"] for row in lab.sql("SELECT attempt FROM predictions")} == {2}


def test_what_was_lost_comes_before_what_is_new(lab: Any) -> None:
    lost, new = lab.insert(), lab.insert()
    lab.enqueue(new)
    lab.relay().step()
    assert lab.queued() == [lost, new]


def _in_order(lab: Any, count: int) -> list[str]:
    return [lab.insert(id=uuid.UUID(int=number)) for number in range(1, count + 1)]


def test_jobs_whose_queue_was_lost_are_handed_out_before_what_is_new(lab: Any) -> None:
    *lost, new = _in_order(lab, 4)
    lab.enqueue(*lost)
    lab.redis.delete(queues.queue_key("ada_echo"))
    lab.enqueue(new)
    relay = lab.relay()
    relay.step()
    relay.step()
    assert lab.queued() == [*lost, new]
    assert [lab.row(prediction)["attempt"] for prediction in [*lost, new]] == [2, 2, 2, 1]
    left = [queues.job_key(queues.job_id("ada_echo", prediction, 1)) for prediction in lost]
    assert lab.redis.exists(*left) == 0


def test_a_job_that_its_runner_popped_is_handed_out_when_those_before_it_have_run(lab: Any) -> None:
    first, popped, last = _in_order(lab, 3)
    lab.enqueue(first, popped, last)
    lab.redis.lrem(queues.queue_key("ada_echo"), 1, queues.job_id("ada_echo", popped, 1))
    lab.relay().step()
    assert lab.queued() == [first, last]
    lab.claim()
    lab.relay().step()
    assert lab.queued() == [popped, last]


def test_a_queue_that_is_none_is_made_anew(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.redis.set(queues.queue_key("ada_echo"), "a string")
    relay = lab.relay()
    relay.step()  # It cannot be written, and is removed.
    relay.step()
    assert lab.queued() == [prediction]


def test_a_job_that_was_enqueued_late_is_left_alone(lab: Any) -> None:
    late, prompt = _in_order(lab, 2)
    lab.enqueue(prompt)
    lab.enqueue(late)
    lab.relay().step()
    assert lab.queued() == [prompt, late]
    assert lab.row(late)["attempt"] == 1


def test_a_very_long_queue_is_looked_through_once_a_tick(lab: Any) -> None:
    *lost, late = _in_order(lab, 3)
    lab.enqueue(*lost)
    lab.redis.delete(queues.queue_key("ada_echo"))
    lab.redis.rpush(queues.queue_key("ada_echo"), *["ada_echo_z"] * 20_001)
    lab.enqueue(late)
    lab.relay().step()
    attempts = [lab.row(prediction)["attempt"] for prediction in [*lost, late]]
    assert attempts == [1, 1, 1]


def test_a_long_queue_takes_several_ticks(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_PAGE", 2)
    predictions = [lab.insert(id=uuid.UUID(int=number)) for number in range(1, 8)]
    lab.enqueue(*predictions)
    relay = lab.relay()
    for _ in range(4):  # the first pass is in a hurry: this relay does not know this Redis
        relay.step()
    job = queues.job_id("ada_echo", predictions[0], 1)
    lab.redis.delete(queues.job_key(job))
    attempts = []
    for _ in range(5):
        relay.step()
        attempts.append(lab.row(predictions[0])["attempt"])
    assert attempts == [1, 1, 1, 2, 2]


def test_an_emptied_redis_is_noticed_at_once(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_PAGE", 2)
    predictions = [lab.insert() for _ in range(7)]
    lab.enqueue(*predictions)
    clock = Clock()
    relay = lab.relay(sweep_seconds=60, clock=clock)
    while relay.step() == 0:
        pass
    lab.redis.flushall()
    clock.now += 60
    while relay.step() == 0:
        pass
    assert len(lab.queued()) == 7


def test_a_cancel_that_redis_did_not_hear_is_carried_out(lab: Any) -> None:
    prediction = lab.insert(webhook="https://example.com/")
    lab.enqueue(prediction)
    lab.sql("UPDATE predictions SET cancel_requested_at = now()")
    lab.relay().step()
    row = lab.row(prediction)
    assert (row["status"], row["error_code"]) == ("canceled", "canceled")
    assert lab.queued() == []
    assert lab.told_of(prediction) == ["completed"]


def test_two_relays_hand_out_once(lab: Any) -> None:
    prediction = lab.insert()
    lab.keep_waiting()
    lab.race([lab.relay(sweep_seconds=3600) for _ in range(2)], prediction)
    assert lab.row(prediction)["attempt"] == 2
    assert lab.queued() == [prediction]
