from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract import queues
from inference_gateway.errors import NotFound
from inference_gateway.lifecycle.cancel import cancel, end_waiting

ADA = str(uuid.UUID(hashlib.md5(b"ada").hexdigest()))
AWAY = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))


@pytest.fixture
def ends(lab: Any) -> Iterator[Callable[[], Any]]:
    """What those who wait were told since."""
    with lab.redis.pubsub() as channel:
        channel.subscribe(queues.ENDED)
        channel.get_message(timeout=5)

        def heard() -> Any:
            message = channel.get_message(timeout=5)
            return message and json.loads(message["data"])

        yield heard


def test_a_prediction_that_waits_ends_at_once(lab: Any, ends: Callable[[], Any]) -> None:
    prediction, other = lab.insert(webhook="https://example.com/"), lab.insert()
    lab.enqueue(prediction, other)
    row: Any = cancel(lab.engine, lab.redis, prediction, ADA)
    assert (row["status"], row["error_code"]) == ("canceled", "canceled")
    assert row["completed_at"] >= row["cancel_requested_at"] >= row["created_at"]
    assert lab.queued() == [other]
    assert lab.claim()["id"] == other
    assert lab.told_of(prediction) == ["completed"]
    assert ends() == {prediction: None}


def test_one_that_was_never_enqueued_ends_at_once(lab: Any) -> None:
    prediction = lab.insert()
    assert cancel(lab.engine, lab.redis, prediction, ADA)["status"] == "canceled"


@pytest.mark.parametrize("recorded", [False, True])
def test_one_that_runs_is_asked_to_stop(lab: Any, recorded: bool) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.send("started", lab.claim())
    if recorded:
        lab.record()
    row = cancel(lab.engine, lab.redis, prediction, ADA)
    assert row["status"] == ("processing" if recorded else "starting")
    assert row["cancel_requested_at"] is not None
    assert lab.redis.hgetall("ada_echo:cancel") == {prediction.encode(): b"1"}
    assert 0 < lab.redis.ttl("ada_echo:cancel") <= 3600


def test_one_that_runs_is_asked_even_if_redis_forgot_its_job(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.send("started", lab.claim())
    lab.record()
    lab.redis.flushall()
    assert cancel(lab.engine, lab.redis, prediction, ADA)["status"] == "processing"
    assert lab.redis.hexists("ada_echo:cancel", prediction)


def test_a_result_that_is_not_recorded_yet_wins(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.finish(lab.claim())
    assert cancel(lab.engine, lab.redis, prediction, ADA)["status"] == "starting"
    lab.record()
    lab.relay().step()
    assert lab.row(prediction)["status"] == "succeeded"


def test_ended_is_ended(lab: Any) -> None:
    prediction = lab.insert()
    lab.send("succeeded", prediction)
    lab.record()
    before = lab.row(prediction)
    assert cancel(lab.engine, lab.redis, prediction, ADA)["status"] == "succeeded"
    assert lab.row(prediction) == before


def test_twice_is_once(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    first = cancel(lab.engine, lab.redis, prediction, ADA)
    assert cancel(lab.engine, lab.redis, prediction, ADA) == first


@pytest.mark.parametrize("prediction", ["0de24f7d-56bc-4f82-a844-e8a60f8b49f9", "nonsense", ""])
def test_none_is_not_found(lab: Any, prediction: str) -> None:
    with pytest.raises(NotFound):
        cancel(lab.engine, lab.redis, prediction, ADA)


def test_anothers_is_not_found(lab: Any) -> None:
    prediction = lab.insert()
    with pytest.raises(NotFound):
        cancel(lab.engine, lab.redis, prediction, str(uuid.uuid4()))
    assert lab.row(prediction)["cancel_requested_at"] is None


def test_without_redis_the_request_is_kept(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    row = cancel(lab.engine, AWAY, prediction, ADA)
    assert row["status"] == "starting"
    assert row["cancel_requested_at"] is not None
    lab.relay().step()
    assert lab.row(prediction)["status"] == "canceled"


def test_what_waits_for_a_model_that_is_gone_ends(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_gateway.lifecycle.cancel._PAGE", 2)
    waiting = [lab.insert(webhook="https://example.com/") for _ in range(5)]
    running, claimed, other = lab.insert(), lab.insert(), lab.insert(model="ada/other")
    lab.enqueue(running, claimed, *waiting)
    lab.send("started", lab.claim())
    lab.claim()
    lab.record()
    assert end_waiting(lab.engine, lab.redis, "ada/echo") == 5
    rows = [lab.row(prediction) for prediction in waiting]
    assert {(r["status"], r["error_code"]) for r in rows} == {("canceled", "model_deleted")}
    assert all(lab.told_of(prediction) == ["completed"] for prediction in waiting)
    assert lab.row(running)["status"] == "processing"
    assert lab.row(claimed)["status"] == "starting"
    assert lab.row(running)["cancel_requested_at"] is None
    assert not lab.redis.exists("ada_echo:cancel")
    assert lab.queued() == []
    assert lab.row(other)["status"] == "starting"


def test_a_result_that_is_on_its_way_is_not_canceled_with_the_model(lab: Any) -> None:
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.finish(lab.claim())
    assert end_waiting(lab.engine, lab.redis, "ada/echo") == 0
    lab.record()
    assert lab.row(prediction)["status"] == "succeeded"
