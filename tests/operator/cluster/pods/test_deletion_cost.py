"""Idle pods go first: what is annotated, and what Redis says of who is busy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis

from inference_contract import queues
from inference_operator.cluster.pods.deletion_cost import costs, running_by_pod
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.redis.connection import RedisUnavailable

IDLE = RunnerPod("idle", "1", "h", is_ready=True)
BUSY = RunnerPod("busy", "2", "h", is_ready=True)
KNOWN = replace(BUSY, deletion_cost="2")
TERMINATING = replace(KNOWN, name="terminating", terminating_until=datetime(2026, 1, 2, tzinfo=UTC))
TWO = Counter({"busy": 2, "terminating": 1, "of-another-model": 7})


@pytest.mark.parametrize(
    ("pods", "running", "wanted", "expected"),
    [
        pytest.param([IDLE, BUSY], TWO, 1, {"busy": "2"}, id="the busy one costs more"),
        pytest.param([IDLE, KNOWN], TWO, 1, {}, id="as it is already"),
        pytest.param([IDLE, KNOWN], Counter(), 1, {"busy": "0"}, id="no longer busy"),
        pytest.param([IDLE, BUSY], Counter(), 1, {}, id="all idle"),
        pytest.param([IDLE, BUSY], TWO, 0, {}, id="all of them go"),
        pytest.param([IDLE, BUSY], TWO, 2, {}, id="none of them goes"),
        pytest.param([BUSY, TERMINATING], TWO, 1, {}, id="one goes already"),
        pytest.param([], TWO, 1, {}, id="no pods"),
    ],
)
def test_costs(
    pods: list[RunnerPod], running: Counter[str], wanted: int, expected: dict[str, str]
) -> None:
    assert costs(pods, running, wanted) == expected


def _run(client: redis.Redis, job: str, process: str, model: str = "a_m") -> None:
    """As the runner's claim leaves it (inference_contract.functions)."""
    client.zadd(f"rq:wip:{model}", {f"{model}_{job}_1:{process}0001": 1.0})


def test_running_predictions_of_each_pod(redis_url: str, redis_client: redis.Redis) -> None:
    for process, pod in (("aa", "m-runner-1"), ("bb", "m-runner-2"), ("cc", "m-runner-3")):
        worker = f"rq:worker:{queues.worker_name('a_m', pod)}"
        redis_client.hset(worker, "process", process)
    for job, process in enumerate(["aa", "bb", "aa", "dd", ""]):
        _run(redis_client, str(job), process)
    _run(redis_client, "9", "cc", "a_n")
    pods = ["m-runner-1", "m-runner-2", "m-runner-3", "m-starts"]
    assert running_by_pod(redis_url, "a/m", pods) == {"m-runner-1": 2, "m-runner-2": 1}


def test_nothing_runs(redis_url: str) -> None:
    assert running_by_pod(redis_url, "a/m", ["m-runner-1"]) == {}
    assert running_by_pod(redis_url, "a/m", []) == {}


def test_a_redis_that_is_away() -> None:
    with pytest.raises(RedisUnavailable):
        running_by_pod("unix:///nowhere", "a/m", [])
