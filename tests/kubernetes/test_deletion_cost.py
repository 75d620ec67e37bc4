"""A scale-down on a real cluster, with runners at work: the idle one goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from cluster_operator import MODEL, OWNER, ClusterOperator
from kubernetes.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec
from narrow import there

from inference_contract import queues
from inference_contract.predictions import Job
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_operator.cluster.pods.deletion_cost import running_by_pod
from inference_operator.cluster.pods.runner_pod import ANNOTATION_COST

ID = f"{OWNER}/{MODEL}"
RUNS = 20
"""Seconds of the prediction: enough to scale down meanwhile."""


@pytest.fixture
def pod_redis(operator: ClusterOperator, valkey_image: str) -> str:
    """The URL of a Valkey in the cluster, which pods and this machine reach."""
    server = ["valkey-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    container = V1Container(name="valkey", image=valkey_image, command=server)
    spec = V1PodSpec(containers=[container], termination_grace_period_seconds=0)
    body = V1Pod(metadata=V1ObjectMeta(name="valkey"), spec=spec)
    operator.core.create_namespaced_pod(operator.namespace, body)

    def url() -> str | None:
        status = operator.core.read_namespaced_pod("valkey", operator.namespace).status
        address = there(status).pod_ip
        url = f"redis://{address}:6379"
        return url if address and _answers(url) else None

    found: str = operator.until(url, 60)
    return found


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_idle_pod_goes(
    operator: ClusterOperator, runner_image: str, make_volume: Callable[[str], str], pod_redis: str
) -> None:
    operator.start(RUNNER_IMAGE=runner_image, REDIS_URL=pod_redis, RUNNER_REDIS_URL=pod_redis)
    operator.make(
        type="custom",
        source={"pvc": {"claimName": make_volume("tests/embedded/models")}},
        engine={"className": "slow:Slow", "parameters": {"seconds": RUNS}},
        minReplicas=2,
        maxReplicas=2,
    )
    operator.until(lambda: operator.status().get("readyReplicas") == 2, 120)
    with redis.Redis.from_url(pod_redis) as client:
        job = Job(id="0", attempt=1, token="t", input={"text": "x"}, notify=[], crashes=0)
        JobQueue(client).enqueue(ID, [job])
        names = [pod.metadata.name for pod in operator.pods()]
        [busy] = operator.until(lambda: running_by_pod(pod_redis, ID, names))
        operator.change(minReplicas=1)
        operator.until(lambda: len(_staying(operator)) == 1)
        [pod] = _staying(operator)
        assert pod.metadata.name == busy
        assert pod.metadata.annotations[ANNOTATION_COST] == "1"
        operator.until(lambda: _last_event(client).get("type") == "succeeded", RUNS + 10)


def _staying(operator: ClusterOperator) -> list[Any]:
    return [pod for pod in operator.pods() if pod.metadata.deletion_timestamp is None]


def _last_event(client: redis.Redis) -> dict[str, Any]:
    entries: Any = client.xrevrange(queues.events_key(queues.model_key(ID)), count=1)
    return json.loads(entries[0][1][b"d"])[-1] if entries else {}
