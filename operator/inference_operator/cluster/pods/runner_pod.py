"""A runner's pod, parsed from the API server's object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from typing import Any

from inference_contract.pods import LABEL_HASH, LABEL_OWNER
from inference_operator.cluster.manifests.fetch import FETCH
from inference_operator.cluster.manifests.pod import CONTAINER

ANNOTATION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Of the ready pods of a ReplicaSet that is scaled down, those of the lowest cost go first."""

OVERDUE = timedelta(seconds=10)
"""Time beyond a deleted pod's grace period; a working kubelet has ended the pod by then."""
RECENT = timedelta(minutes=10)
"""How long an eviction is reported, unless another pod makes progress."""


@dataclass(frozen=True)
class End:
    """How a container's process ended."""

    code: int
    reason: str
    is_last: bool
    """Whether no later start has begun; then its log is the container's current one."""


@dataclass(frozen=True)
class Eviction:
    """An eviction: the node ran short of a resource, or did not admit the pod."""

    reason: str
    message: str
    at: datetime


@dataclass(frozen=True)
class DownloadProgress:
    """The progress of a download."""

    percent: int
    total_bytes: int


@dataclass(frozen=True)
class RunnerPod:
    """A pod by its current container: the download until it is done, then the runner."""

    name: str
    uid: str
    hash: str
    container: str = CONTAINER
    node: str = ""
    is_ready: bool = False
    is_started: bool = False
    """Its startup probe succeeded: the runner has loaded its model."""
    terminating_until: datetime | None = None
    """Set for a deleted pod: the end of its grace period."""
    is_lost: bool = False
    """Whether its node no longer reports."""
    eviction: Eviction | None = None
    running_since: str = ""
    """RFC 3339; empty while no container runs."""
    restarts: int = 0
    end: End | None = None
    waiting: tuple[str, str] = ("", "")
    """Reason and message from the kubelet."""
    unschedulable: str = ""
    """The scheduler's message."""
    memory_limit: str = ""
    owner: str = ""
    """The owner of its model."""
    deletion_cost: str = "0"
    progress: DownloadProgress | None = None
    """The progress of a running download, if its log has it."""

    @property
    def is_fetched(self) -> bool:
        """Whether a download is done, or there was none to do."""
        return self.container == CONTAINER

    @property
    def is_terminating(self) -> bool:
        return self.terminating_until is not None

    @property
    def is_downloading(self) -> bool:
        return not self.is_fetched and bool(self.running_since)

    @property
    def is_loading(self) -> bool:
        is_up = self.is_ready or self.is_started
        return self.is_fetched and bool(self.running_since) and not is_up


def parse(pod: Mapping[str, Any]) -> RunnerPod | None:
    """The pod; None if it has ended for good by other means than an eviction."""
    metadata, status = pod["metadata"], pod.get("status", {})
    eviction = _eviction(pod)
    if eviction is None and status.get("phase") in ("Failed", "Succeeded"):
        return None
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    name, container = _current(pod)
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    is_unschedulable = scheduled.get("reason") == "Unschedulable"
    is_ready = conditions.get("Ready", {}).get("status") == "True"
    terminating_until = metadata.get("deletionTimestamp")
    return RunnerPod(
        name=metadata["name"],
        uid=metadata["uid"],
        hash=metadata.get("labels", {}).get(LABEL_HASH, ""),
        container=name,
        node=pod.get("spec", {}).get("nodeName", ""),
        is_ready=is_ready,
        # The kubelet sets `started` for the download, too.
        is_started=name == CONTAINER and bool(container.get("started")),
        terminating_until=datetime.fromisoformat(terminating_until) if terminating_until else None,
        # The kubelet's last report says ready, but the node controller has set Ready to False.
        is_lost=container.get("ready", False) and not is_ready,
        eviction=eviction,
        running_since=state.get("running", {}).get("startedAt") or "",
        restarts=container.get("restartCount", 0),
        end=_end(container),
        waiting=(waiting.get("reason", ""), waiting.get("message", "")),
        unschedulable=scheduled.get("message", "") if is_unschedulable else "",
        deletion_cost=metadata.get("annotations", {}).get(ANNOTATION_COST, "0"),
        memory_limit=_memory_limit(pod, name),
        owner=metadata.get("labels", {}).get(LABEL_OWNER, ""),
    )


def as_of(pods: Iterable[RunnerPod], now: datetime) -> list[RunnerPod]:
    """The pods; those that should have ended by now are marked as lost."""
    return [
        replace(pod, is_lost=True, running_since="") if _is_overdue(pod, now) else pod
        for pod in pods
    ]


def next_overdue(pods: Iterable[RunnerPod], now: datetime) -> float:
    """Seconds until the next terminating pod should have ended; inf if there is none."""
    ends = [pod.terminating_until + OVERDUE - now for pod in pods if pod.terminating_until]
    return min((end.total_seconds() for end in ends if end > timedelta()), default=inf)


def recent(evicted: Iterable[RunnerPod], now: datetime) -> list[RunnerPod]:
    """The pods evicted recently; Kubernetes keeps evicted pods for long."""
    return [pod for pod in evicted if pod.eviction and now - pod.eviction.at < RECENT]


def _is_overdue(pod: RunnerPod, now: datetime) -> bool:
    return pod.terminating_until is not None and now >= pod.terminating_until + OVERDUE


def _eviction(pod: Mapping[str, Any]) -> Eviction | None:
    """The eviction, from the pod's reason. A runner that ended with an error has none: the kubelet
    restarts it."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed" or "reason" not in status:
        return None
    changes = [c.get("lastTransitionTime") or "" for c in status.get("conditions", ())]
    at = datetime.fromisoformat(max([pod["metadata"]["creationTimestamp"], *changes]))
    return Eviction(status["reason"], status.get("message", "").strip(" ."), at)


def _end(container: Mapping[str, Any]) -> End | None:
    now = container.get("state", {}).get("terminated")
    ended = now or container.get("lastState", {}).get("terminated")
    if not ended or (ended.get("exitCode") == 0 and now is None):
        return None
    return End(ended.get("exitCode", 0), ended.get("reason", ""), is_last=now is not None)


def _current(pod: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The current container, and its status: empty before the kubelet's first report."""
    status = pod.get("status", {})
    if any(found["name"] == FETCH for found in pod.get("spec", {}).get("initContainers", ())):
        fetch = _named(status.get("initContainerStatuses", ()), FETCH)
        if fetch.get("state", {}).get("terminated", {}).get("exitCode") != 0:
            return FETCH, fetch
    return CONTAINER, _named(status.get("containerStatuses", ()), CONTAINER)


def _named(found: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((entry for entry in found if entry["name"] == name), {})


def _memory_limit(pod: Mapping[str, Any], container: str) -> str:
    spec = pod.get("spec", {})
    found = _named((*spec.get("initContainers", ()), *spec.get("containers", ())), container)
    return str(found.get("resources", {}).get("limits", {}).get("memory", ""))
