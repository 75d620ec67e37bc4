"""Idle pods go first: what is annotated, and what Redis says of who is busy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis

from inference_contract import queues
from inference_operator.redis_link import RedisUnavailable
from inference_operator.retirement import costs, running_by_pod
from inference_operator.runner_pods import RunnerPod

IDLE = RunnerPod("idle", "1", "h", is_ready=True)
BUSY = RunnerPod("busy", "2", "h", is_ready=True)
KNOWN = replace(BUSY, deletion_cost="2")
GOING = replace(KNOWN, name="going", going_until=datetime(2026, 1, 2, tzinfo=UTC))
TWO = Counter({"busy": 2, "going": 1, "of-another-model": 7})


@pytest.mark.parametrize(
    ("pods", "running", "wanted", "expected"),
    [
        pytest.param([IDLE, BUSY], TWO, 1, {"busy": "2"}, id="the busy one costs more"),
        pytest.param([IDLE, KNOWN], TWO, 1, {}, id="as it is already"),
        pytest.param([IDLE, KNOWN], Counter(), 1, {"busy": "0"}, id="no longer busy"),
        pytest.param([IDLE, BUSY], Counter(), 1, {}, id="all idle"),
        pytest.param([IDLE, BUSY], TWO, 0, {}, id="all of them go"),
        pytest.param([IDLE, BUSY], TWO, 2, {}, id="none of them goes"),
        pytest.param([BUSY, GOING], TWO, 1, {}, id="one goes already"),
        pytest.param([], TWO, 1, {}, id="no pods"),
    ],
)
def test_costs(
    pods: list[RunnerPod], running: Counter[str], wanted: int, expected: dict[str, str]
) -> None:
    assert costs(pods, running, wanted) == expected


def _run(client: redis.Redis, job: str, runner: str, model: str = "a_m") -> None:
    """As the runner's claim leaves it (runner/inference_runner/claim.py)."""
    client.hset(f"rq:job:{model}_{job}_1", mapping={"status": "started", "worker_name": runner})
    client.zadd(f"rq:wip:{model}", {f"{model}_{job}_1:0001": 1.0})


def test_running_predictions_of_each_pod(redis_url: str, redis_client: redis.Redis) -> None:
    for job, runner in enumerate(["m-runner-1", "m-runner-2", "m-runner-1"]):
        _run(redis_client, str(job), queues.worker_name("a_m", runner))
    _run(redis_client, "8", "somebody")
    _run(redis_client, "9", queues.worker_name("a_n", "n-runner-1"), "a_n")
    redis_client.zadd("rq:wip:a_m", {"a_m_ended_1:0001": 1.0})
    assert running_by_pod(redis_url, "a/m") == {"m-runner-1": 2, "m-runner-2": 1}


def test_nothing_runs(redis_url: str) -> None:
    assert running_by_pod(redis_url, "a/m") == {}


def test_a_redis_that_is_away() -> None:
    with pytest.raises(RedisUnavailable):
        running_by_pod("unix:///nowhere", "a/m")
