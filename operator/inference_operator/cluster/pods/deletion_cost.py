"""Pod deletion costs, so that a scale-down removes the pods that run the fewest predictions.

A ReplicaSet deletes pods that are not ready first, then those of the lowest deletion cost
(kubernetes/kubernetes, pkg/controller/controller_utils.go, ActivePodsWithRanks). A busy pod that is
deleted all the same drains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing

from inference_contract import queues
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.redis.connection import RedisConnection

_MAX_RUNNING = 100_000
"""Limit for entries that are read: runners, which are not trusted, write their model's keys."""


def costs(pods: Iterable[RunnerPod], running: Counter[str], wanted: int) -> dict[str, str]:
    """The deletion costs to set before a model is scaled down; only those that change.

    Args:
        running: predictions by pod, from `running_by_pod`.
        wanted: replicas to keep.
    """
    staying = [pod for pod in pods if not pod.is_terminating]
    if not 0 < wanted < len(staying):
        return {}
    found = {pod.name: str(running[pod.name]) for pod in staying}
    return {pod.name: found[pod.name] for pod in staying if pod.deletion_cost != found[pod.name]}


def running_by_pod(redis_url: str, model_id: str, pods: Sequence[str]) -> Counter[str]:
    """How many predictions each of the pods runs. Opens a connection of its own.

    Raises:
        RedisUnavailable: Redis did not answer.
    """
    key = queues.model_key(model_id)
    workers = [f"rq:worker:{queues.worker_name(key, pod)}" for pod in pods]
    with closing(RedisConnection(redis_url)) as redis:
        leases, *processes = redis.ask(
            [
                ("ZRANGE", queues.in_flight_key(key), "0", str(_MAX_RUNNING)),
                *(("HGET", worker, "process") for worker in workers),
            ]
        )
    pod_of = {process: pod for process, pod in zip(processes, pods, strict=True) if process}
    size = len(next(iter(pod_of), b""))
    running = (pod_of.get(lease.rpartition(b":")[2][:size]) for lease in leases)
    return Counter(filter(None, running))
