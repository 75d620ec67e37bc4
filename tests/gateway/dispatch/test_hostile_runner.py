"""The runners of one model write what a Redis user of theirs may, as much as there is room for:
the predictions of other models are recorded and handed out as before."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import orjson
import pytest

from inference_contract import queues
from inference_gateway.dispatch.recording import portions
from inference_gateway.dispatch.recording.events import parse
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.dispatch.recording.streams import StreamKeys, ensure_groups
from inference_gateway.dispatch.recovery import jobs
from inference_gateway.redis.bounded_reader import MAX_ENTRIES
from inference_gateway.redis.clients import blocking

BAD, FINE = "bob/bad", "ada/fine"
BAD_EVENTS = "bob_bad:events"


def heartbeats(count: int, prediction: str, padding: int = 0) -> bytes:
    head = {"type": "heartbeat", "id": prediction, "attempt": 1, "token": "token-1"}
    return orjson.dumps([{**head, "logs": "x" * padding}] * count)


def leases(lab: Any, count: int, end: float) -> None:
    lab.redis.sadd(queues.QUEUES_KEY, "rq:queue:bob_bad")
    members = {f"bob_bad_{uuid.UUID(int=n)}_1:x": end for n in range(count)}
    lab.redis.zadd(queues.in_flight_key("bob_bad"), members)


def test_leases_that_nobody_has_are_tidied_up_a_part_at_a_time(lab: Any) -> None:
    leases(lab, 2500, end=0)
    relay = lab.relay()
    left = []
    for _ in range(3):
        relay.step()
        left.append(lab.redis.zcard(queues.in_flight_key("bob_bad")))
    assert left == [1500, 500, 0]


def test_of_many_leases_the_latest_are_read(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_MOST_LEASES", 10)
    leases(lab, 100, end=1e9)
    lab.redis.zadd(queues.in_flight_key("bob_bad"), {"mine:x": 2e9})
    found = jobs.leases(lab.redis, ["bob_bad"])
    assert len(found.ends) == 10
    assert found.ends["mine"] == 2e9


@pytest.mark.parametrize(
    "data",
    [b"[" + b",".join([b"{}"] * 4_100_000) + b"]", b"[" + b",".join([b"1"] * 10_001) + b"]"],
    ids=["bytes", "items"],
)
def test_an_entry_that_is_larger_than_a_runner_makes_it_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="more than"):
        parse(data)


def test_the_largest_output_is_no_such_entry() -> None:
    event = {"type": "succeeded", "id": str(uuid.uuid4()), "attempt": 1, "token": "t"}
    data = orjson.dumps([{**event, "output": "x" * 10_000_000}])
    assert len(parse(data).events) == 1


def test_a_model_that_says_much_is_recorded_a_part_at_a_time(lab: Any) -> None:
    """Everything of the others is in the first batch."""
    bad, fine = lab.insert(model=BAD), [lab.insert(model=FINE) for _ in range(200)]
    recorder = lab.recorder()
    for _ in range(10):
        lab.redis.xadd(BAD_EVENTS, {"d": heartbeats(1, bad, padding=400_000)})
    end = {"type": "succeeded", "id": bad, "attempt": 1, "token": "token-1", "output": 1}
    lab.redis.xadd(BAD_EVENTS, {"d": orjson.dumps([end])})
    for prediction in fine:
        event = {"type": "succeeded", "id": prediction, "attempt": 1, "token": "token-1"}
        lab.redis.xadd("ada_fine:events", {"d": orjson.dumps([event])})
    recorder.step()
    assert lab.redis.xpending("ada_fine:events", "recorder")["pending"] == 0
    assert {lab.row(prediction)["status"] for prediction in fine} == {"succeeded"}
    assert lab.redis.xpending(BAD_EVENTS, "recorder")["pending"] > 0
    rounds(recorder, lambda: lab.row(bad)["status"] == "succeeded")
    assert lab.redis.xpending(BAD_EVENTS, "recorder")["pending"] == 0


def rounds(recorder: Recorder, is_done: Any) -> None:
    for _ in range(100):
        if is_done():
            return
        recorder.step()
    raise AssertionError("100 rounds were not enough")


def test_who_costs_much_is_not_read_for_a_while(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = 0.0

    def clock() -> float:
        nonlocal cpu
        cpu += 10  # Each batch costs so much.
        return cpu

    bad, fine = lab.insert(model=BAD), lab.insert(model=FINE)
    recorder = lab.recorder()
    recorder.step()
    monkeypatch.setattr("time.thread_time", clock)
    lab.redis.xadd(BAD_EVENTS, {"d": heartbeats(1, bad, padding=400_000)})
    recorder.step()
    end = {"type": "succeeded", "id": bad, "attempt": 1, "token": "token-1"}
    lab.redis.xadd(BAD_EVENTS, {"d": orjson.dumps([end])})
    end |= {"id": fine}
    lab.redis.xadd("ada_fine:events", {"d": orjson.dumps([end])})
    for _ in range(3):
        recorder.step()
    assert (lab.row(bad)["status"], lab.row(fine)["status"]) == ("processing", "succeeded")


def test_a_model_that_is_alone_is_always_read(lab: Any) -> None:
    keys = StreamKeys(lab.engine, lab.redis)
    keys.heard(["bob_bad"])
    keys.rest("bob_bad", 1000)
    assert keys.readable == {"bob_bad"}
    keys.heard(["ada_fine"])
    keys.rest("bob_bad", 1000)
    assert keys.readable == {"ada_fine"}
    assert keys.due_for_trim() == {"bob_bad", "ada_fine"}


@pytest.mark.parametrize("is_known", [True, False], ids=["delivered before", "new"])
def test_an_entry_of_millions_of_fields_is_never_read(lab: Any, is_known: bool) -> None:
    bad, fine = lab.insert(model=BAD), lab.insert(model=FINE)
    lab.redis.xadd(BAD_EVENTS, dict.fromkeys(map(str, range(600_000)), ""))
    event = {"type": "succeeded", "id": fine, "attempt": 1, "token": "token-1"}
    lab.redis.xadd("ada_fine:events", {"d": orjson.dumps([event])})
    if is_known:  # to a recorder that was killed for its memory
        ensure_groups(lab.redis, ["bob_bad"])
        lab.redis.xreadgroup("recorder", "one", {BAD_EVENTS: ">"})
    with blocking(lab.url) as client:
        recorder = Recorder(
            lab.engine, client, lease_seconds=30, consumer="one", told=threading.Event()
        )
        rounds(recorder, lambda: lab.row(fine)["status"] == "succeeded")
        assert lab.redis.xlen(BAD_EVENTS) == 0
        event["id"] = bad
        lab.redis.xadd(BAD_EVENTS, {"d": orjson.dumps([event])})
        rounds(recorder, lambda: lab.row(bad)["status"] == "succeeded")


def test_as_many_entries_as_are_asked_for_can_be_read(lab: Any) -> None:
    with lab.redis.pipeline() as pipe:
        for _ in range(MAX_ENTRIES):
            pipe.xadd(BAD_EVENTS, {"d": "[]"})
        pipe.execute()
    with blocking(lab.url) as client:
        assert len(client.xrange(BAD_EVENTS)) == MAX_ENTRIES
    counts = portions.Counts()
    assert counts.least(set(map(str, range(1000)))) == MAX_ENTRIES // 1000


def entries(*sizes: int) -> portions.Entries:
    return [(b"%d-0" % n, {b"d": b"x" * size}) for n, size in enumerate(sizes)]


def test_portions_leave_room_for_all_who_have_little() -> None:
    small = {b"small%d" % n: entries(10, 10) for n in range(50)}
    large = {b"large%d" % n: entries(*[900_000] * 3) for n in range(20)}
    chosen = portions.portions(large | small)
    whole = {portion.stream for portion in chosen if portion.is_whole}
    assert whole == small.keys()
    rest = [portion for portion in chosen if not portion.is_whole]
    assert {len(portion.entries) for portion in rest} == {1}
    assert len(rest) == 9


def test_of_large_entries_fewer_are_asked_for_and_of_the_others_no_fewer() -> None:
    counts = portions.Counts()
    counts.learn([("large", entries(200_000)), ("small", entries(10))], {"large", "small"})
    asked = counts.parts({"large", "small"})
    assert [(set(keys), most) for keys, most in asked] == [
        ({"large", "small"}, 4),
        ({"small"}, portions.MAX_COUNT),
    ]
    counts.learn([("large", entries(10))], {"large", "small"})
    assert counts.least({"large"}) == portions.MAX_COUNT
