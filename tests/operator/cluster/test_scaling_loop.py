"""The models that are known, and what a reading of Redis decides for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from inference_contract import queues
from inference_contract.inferencemodel import InferenceModel
from inference_operator.cluster.api.objects import Key
from inference_operator.cluster.scaling_loop import STATUS_SECONDS, ScalingLoop, Seen, Tracked
from inference_operator.redis.connection import RedisConnection
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load, Loads
from inference_operator.scaling.scaler import Scaler

KEY, MOVED = ("team-a", "m"), ("team-b", "m")


def _tracked(replicas: int = 0, mode: str = "Operator") -> Tracked:
    document = {
        "metadata": {"name": "m", "namespace": "alice"},
        "spec": {
            "type": "text-generation",
            "source": {"path": "/m"},
            "maxReplicas": 5,
            "autoscaling": {"mode": mode, "targetPerReplica": 2},
        },
    }
    return Tracked(InferenceModel.model_validate(document), replicas)


class Woken:
    def __init__(self, redis_url: str) -> None:
        self._keys: list[Key] = []
        self.scaler = Scaler(Loads(RedisConnection(redis_url)))
        self.scaling = ScalingLoop(self.scaler, self._keys.append, 1)

    def take(self) -> list[Key]:
        keys, self._keys[:] = list(self._keys), []
        return keys


@pytest.fixture
def woken(redis_url: str) -> Iterator[Woken]:
    woken = Woken(redis_url)
    yield woken
    woken.scaler.close()


def test_nothing_is_decided_before_the_first_reading(woken: Woken) -> None:
    woken.scaling.track(KEY, _tracked())
    assert woken.scaling.seen(KEY) is None


def test_work_makes_replicas(woken: Woken, redis_client: redis.Redis) -> None:
    redis_client.rpush(queues.queue_key("alice_m"), *range(5))
    woken.scaling.track(KEY, _tracked())
    woken.scaling.tick(100)
    assert woken.scaling.seen(KEY) == Seen(Decision(3, Why.SCALE_UP), Load(5, 0))
    assert woken.take() == [KEY]


def test_a_restarted_operator_begins_with_what_runs(woken: Woken) -> None:
    woken.scaling.track(KEY, _tracked(replicas=4))
    woken.scaling.tick(100)
    seen = woken.scaling.seen(KEY)
    assert seen
    assert seen.decision.replicas == 4


def test_replicas_that_somebody_else_scales_are_followed(
    woken: Woken, redis_client: redis.Redis
) -> None:
    redis_client.rpush(queues.queue_key("alice_m"), *range(5))
    found = []
    for now, replicas in enumerate((1, 4, 0)):
        woken.scaling.track(KEY, _tracked(replicas, mode="None"))
        woken.scaling.tick(now)
        found.append(woken.scaling.seen(KEY))
    assert found == [Seen(Decision(n, Why.EXTERNAL), Load(5, 0)) for n in (1, 4, 0)]
    woken.scaling.track(KEY, _tracked(0))
    woken.scaling.tick(10)
    assert woken.scaling.seen(KEY) == Seen(Decision(3, Why.SCALE_UP), Load(5, 0))


def test_without_redis_the_replicas_are_held() -> None:
    woken = Woken("redis://127.0.0.1:1")
    woken.scaling.track(KEY, _tracked(replicas=2))
    woken.scaling.tick(100)
    assert woken.scaling.seen(KEY) == Seen(Decision(2, Why.UNKNOWN), None)


def test_at_rest_nobody_is_woken(woken: Woken) -> None:
    woken.scaling.track(KEY, _tracked())
    woken.scaling.tick(100)
    assert woken.take() == [KEY]
    for now in range(101, 120):
        woken.scaling.tick(now)
    assert woken.take() == []


def test_a_load_that_changes_all_the_time_is_told_at_a_pace(
    woken: Woken, redis_client: redis.Redis
) -> None:
    queue = queues.queue_key("alice_m")
    redis_client.rpush(queue, *range(8))
    woken.scaling.track(KEY, _tracked(replicas=5))
    woken.scaling.tick(100)
    woken.scaling.tick(101)
    assert woken.take()
    redis_client.lpop(queue)
    woken.scaling.tick(102)
    assert woken.take() == []
    woken.scaling.tick(102 + STATUS_SECONDS / 2)
    woken.scaling.tick(102 + STATUS_SECONDS)
    assert woken.take() == [KEY]


def test_an_owner_moves(woken: Woken) -> None:
    """For a moment the model is known in both namespaces."""
    for key in (MOVED, KEY):
        woken.scaling.track(key, _tracked())
    woken.scaling.tick(100)
    woken.scaling.forget(KEY)
    woken.take()
    woken.scaling.tick(101)
    assert woken.scaling.seen(MOVED) is not None
    assert woken.take() == [MOVED]


def test_a_model_that_is_gone_is_not_read(woken: Woken) -> None:
    woken.scaling.track(KEY, _tracked())
    woken.scaling.tick(100)
    woken.scaling.forget(KEY)
    woken.scaling.tick(101)
    assert woken.scaling.seen(KEY) is None


def test_its_thread_ticks_at_once_for_a_new_model(redis_url: str, wait_until: object) -> None:
    assert callable(wait_until)
    scaling = ScalingLoop(
        Scaler(Loads(RedisConnection(redis_url))), lambda _: None, tick_seconds=3600
    )
    scaling.start()
    scaling.track(KEY, _tracked())
    wait_until(lambda: scaling.seen(KEY))
    assert scaling.silence() < 3600
    scaling.close()
