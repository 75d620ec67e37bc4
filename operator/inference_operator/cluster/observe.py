"""The observation of a model: all inputs of the decision, read before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from inference_contract.inferencemodel import InferenceModelStatus
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.cluster.manifests.build import Children, children
from inference_operator.cluster.pods import diagnosis, runner_pod
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.downloads import Downloads
from inference_operator.cluster.pods.failure_logs import FailureLogs
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.cluster.redis_access import RedisAccess
from inference_operator.cluster.resource import Resource, require_ours
from inference_operator.cluster.rollout.history import History
from inference_operator.cluster.scaling_loop import Seen
from inference_operator.cluster.settings import ClusterSettings


@dataclass(frozen=True)
class Observation:
    """The state of a valid model whose load was read."""

    resource: Resource
    children: Children
    """The children that the document asks for."""
    deployment: Manifest | None
    """The existing one."""
    pods: Sequence[RunnerPod]
    problems: Mapping[str, PodProblem]
    """Problems by hash of the pods: of the document, and of the version that worked last."""
    earlier: Manifest | None
    """The pod template of the version that worked last, if it is not the document's and the cluster
    still has it."""
    seen: Seen
    """The model's load, and how many replicas it needs."""
    before: InferenceModelStatus
    redis_url: str
    """The URL for its runners."""
    now: datetime

    @property
    def is_new(self) -> bool:
        return self.deployment is None

    def condition_message(self, type: str, status: str) -> str:
        """The message of a condition of the Deployment, if it has that status; else empty."""
        for condition in (self.deployment or {}).get("status", {}).get("conditions", ()):
            if condition["type"] == type and condition["status"] == status:
                return str(condition.get("message", ""))
        return ""


class Observer:
    """One thread at a time works on a key."""

    def __init__(
        self, cluster: Cluster, mirror: Mirror, access: RedisAccess, settings: ClusterSettings
    ) -> None:
        self._mirror = mirror
        self._access = access
        self._settings = settings
        self._logs = FailureLogs(cluster.log_tail)
        self._history = History(cluster)
        self._downloads = Downloads(partial(cluster.log_tail, previous=False))

    def observe(
        self,
        resource: Resource,
        deployment: Manifest | None,
        seen: Seen,
        before: InferenceModelStatus,
        now: datetime,
    ) -> Observation:
        """Raises Refusal, ClusterError."""
        key = resource.key
        if deployment is not None:
            require_ours(deployment, resource.parent)
        redis_url = self._access.url(resource, is_new=deployment is None)
        desired = children(resource, self._settings, redis_url)
        pods = runner_pod.as_of(self._mirror.pods(key), now)
        pods = self._downloads.with_progress(key, pods)
        evicted = runner_pod.recent(self._mirror.evicted(key), now)
        worked = before.rollout.hash
        earlier = None
        if deployment is not None and worked not in ("", desired.hash):
            earlier = self._history.template(resource, deployment, worked)
        return Observation(
            resource=resource,
            children=desired,
            deployment=deployment,
            pods=pods,
            problems=self._problems(key, {desired.hash, worked or desired.hash}, [*pods, *evicted]),
            earlier=earlier,
            seen=seen,
            before=before,
            redis_url=redis_url,
            now=now,
        )

    def again(self, key: Key, now: datetime) -> float:
        """Seconds until a change that no watch reports may occur; inf if none is expected."""
        overdue = runner_pod.next_overdue(self._mirror.pods(key), now)
        return min(self._downloads.again(key), self._logs.again(key), overdue)

    def forget(self, key: Key) -> None:
        self._logs.forget(key)
        self._history.forget(key)
        self._downloads.forget(key)

    def _problems(
        self, key: Key, hashes: Collection[str], pods: Collection[RunnerPod]
    ) -> dict[str, PodProblem]:
        """The worst problem of each version, with the last log lines of its runner."""
        found = {
            version: diagnosis.worst([pod for pod in pods if pod.hash == version])
            for version in hashes
        }
        return {
            version: self._logs.explain(key, problem)
            for version, problem in found.items()
            if problem is not None
        }
