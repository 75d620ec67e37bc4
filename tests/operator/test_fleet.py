"""The models that are known, and what a reading of Redis decides for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from inference_contract import queues
from inference_contract.inferencemodel import InferenceModel
from inference_operator.autoscale import Decision, Why
from inference_operator.fleet import STATUS_SECONDS, Enrolled, Fleet, Seen
from inference_operator.loads import Load, Loads
from inference_operator.redis_link import RedisLink
from inference_operator.scaler import Scaler
from inference_operator.work_queue import Key

KEY, MOVED = ("team-a", "m"), ("team-b", "m")


def _enrolled(replicas: int = 0, mode: str = "Operator") -> Enrolled:
    document = {
        "metadata": {"name": "m", "namespace": "alice"},
        "spec": {
            "type": "text-generation",
            "source": {"path": "/m"},
            "maxReplicas": 5,
            "autoscaling": {"mode": mode, "targetPerReplica": 2},
        },
    }
    return Enrolled(InferenceModel.model_validate(document), replicas)


class Woken:
    def __init__(self, redis_url: str) -> None:
        self._keys: list[Key] = []
        self.fleet = Fleet(Scaler(Loads(RedisLink(redis_url))), self._keys.append, 1)

    def take(self) -> list[Key]:
        keys, self._keys[:] = list(self._keys), []
        return keys


@pytest.fixture
def woken(redis_url: str) -> Iterator[Woken]:
    woken = Woken(redis_url)
    yield woken
    woken.fleet._scaler.close()


def test_nothing_is_decided_before_the_first_reading(woken: Woken) -> None:
    woken.fleet.enroll(KEY, _enrolled())
    assert woken.fleet.seen(KEY) is None


def test_work_makes_replicas(woken: Woken, redis_client: redis.Redis) -> None:
    redis_client.rpush(queues.queue_key("alice_m"), *range(5))
    woken.fleet.enroll(KEY, _enrolled())
    woken.fleet.tick(100)
    assert woken.fleet.seen(KEY) == Seen(Decision(3, Why.SCALE_UP), Load(5, 0))
    assert woken.take() == [KEY]


def test_a_restarted_operator_begins_with_what_runs(woken: Woken) -> None:
    woken.fleet.enroll(KEY, _enrolled(replicas=4))
    woken.fleet.tick(100)
    seen = woken.fleet.seen(KEY)
    assert seen
    assert seen.decision.replicas == 4


def test_replicas_that_somebody_else_scales_are_followed(
    woken: Woken, redis_client: redis.Redis
) -> None:
    redis_client.rpush(queues.queue_key("alice_m"), *range(5))
    found = []
    for now, replicas in enumerate((1, 4, 0)):
        woken.fleet.enroll(KEY, _enrolled(replicas, mode="None"))
        woken.fleet.tick(now)
        found.append(woken.fleet.seen(KEY))
    assert found == [Seen(Decision(n, Why.EXTERNAL), Load(5, 0)) for n in (1, 4, 0)]
    woken.fleet.enroll(KEY, _enrolled(0))
    woken.fleet.tick(10)
    assert woken.fleet.seen(KEY) == Seen(Decision(3, Why.SCALE_UP), Load(5, 0))


def test_without_redis_the_replicas_are_held() -> None:
    woken = Woken("redis://127.0.0.1:1")
    woken.fleet.enroll(KEY, _enrolled(replicas=2))
    woken.fleet.tick(100)
    assert woken.fleet.seen(KEY) == Seen(Decision(2, Why.UNKNOWN), None)


def test_at_rest_nobody_is_woken(woken: Woken) -> None:
    woken.fleet.enroll(KEY, _enrolled())
    woken.fleet.tick(100)
    assert woken.take() == [KEY]
    for now in range(101, 120):
        woken.fleet.tick(now)
    assert woken.take() == []


def test_a_load_that_changes_all_the_time_is_told_at_a_pace(
    woken: Woken, redis_client: redis.Redis
) -> None:
    queue = queues.queue_key("alice_m")
    redis_client.rpush(queue, *range(8))
    woken.fleet.enroll(KEY, _enrolled(replicas=5))
    woken.fleet.tick(100)
    woken.fleet.tick(101)
    assert woken.take()
    redis_client.lpop(queue)
    woken.fleet.tick(102)
    assert woken.take() == []
    woken.fleet.tick(102 + STATUS_SECONDS / 2)
    woken.fleet.tick(102 + STATUS_SECONDS)
    assert woken.take() == [KEY]


def test_an_owner_moves(woken: Woken) -> None:
    """For a moment the model is known in both namespaces."""
    for key in (MOVED, KEY):
        woken.fleet.enroll(key, _enrolled())
    woken.fleet.tick(100)
    woken.fleet.dismiss(KEY)
    woken.take()
    woken.fleet.tick(101)
    assert woken.fleet.seen(MOVED) is not None
    assert woken.take() == [MOVED]


def test_a_model_that_is_gone_is_not_read(woken: Woken) -> None:
    woken.fleet.enroll(KEY, _enrolled())
    woken.fleet.tick(100)
    woken.fleet.dismiss(KEY)
    woken.fleet.tick(101)
    assert woken.fleet.seen(KEY) is None


def test_its_thread_ticks_at_once_for_a_new_model(redis_url: str, wait_until: object) -> None:
    assert callable(wait_until)
    fleet = Fleet(Scaler(Loads(RedisLink(redis_url))), lambda _: None, tick_seconds=3600)
    fleet.start()
    fleet.enroll(KEY, _enrolled())
    wait_until(lambda: fleet.seen(KEY))
    assert fleet.silence() < 3600
    fleet.close()
