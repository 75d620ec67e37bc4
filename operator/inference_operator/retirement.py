"""Which pods go first when replicas go: those that run the least.

A ReplicaSet deletes pods that are not ready first, then those of the lowest deletion cost
(kubernetes/kubernetes, pkg/controller/controller_utils.go, ActivePodsWithRanks). A busy pod that
goes all the same drains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing

from inference_contract import queues
from inference_operator.redis_link import RedisLink
from inference_operator.runner_pods import RunnerPod

_MAX_RUNNING = 100_000
"""What a model's keys hold is up to its runners, and nobody trusts them."""


def costs(pods: Iterable[RunnerPod], running: Counter[str], wanted: int) -> dict[str, str]:
    """The deletion costs to set before a model is scaled down: pods whose cost is another one.

    Args:
        running: predictions by pod, as `running_by_pod` gives them.
        wanted: replicas that shall stay.
    """
    staying = [pod for pod in pods if not pod.is_going]
    if not 0 < wanted < len(staying):
        return {}
    found = {pod.name: str(running[pod.name]) for pod in staying}
    return {pod.name: found[pod.name] for pod in staying if pod.deletion_cost != found[pod.name]}


def running_by_pod(redis_url: str, model_id: str) -> Counter[str]:
    """How many predictions each of the model's pods runs, by a connection of its own.

    Raises:
        RedisUnavailable: nothing is known of any pod.
    """
    in_flight = queues.in_flight_key(queues.model_key(model_id))
    with closing(RedisLink(redis_url)) as redis:
        [leases] = redis.ask([("ZRANGE", in_flight, "0", str(_MAX_RUNNING))])
        jobs = [lease.decode(errors="replace").rpartition(":")[0] for lease in leases]
        runners = redis.ask([("HGET", queues.job_key(job), "worker_name") for job in jobs])
    pods = (_pod(runner.decode(errors="replace")) for runner in runners if runner)
    return Counter(filter(None, pods))


def _pod(runner: str) -> str:
    try:
        return queues.parse_worker_name(runner)[1]
    except ValueError:
        return ""  # Whoever wrote that is no runner of ours.
