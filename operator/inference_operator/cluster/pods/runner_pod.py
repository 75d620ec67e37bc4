"""What the pods of a model say."""

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
"""Beyond the end of a deleted pod's grace: a kubelet that works has ended it by then."""
RECENT = timedelta(minutes=10)
"""How long an eviction is news, if no other pod gets on meanwhile."""


@dataclass(frozen=True)
class End:
    """How a container's process ended."""

    code: int
    reason: str
    is_last: bool
    """Whether a later start has not begun: then its log is the container's current one."""


@dataclass(frozen=True)
class Eviction:
    """How a node put a pod out for good: it ran short of something, or did not take it."""

    reason: str
    message: str
    at: datetime


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is."""

    percent: int
    total_bytes: int


@dataclass(frozen=True)
class RunnerPod:
    """A pod as its current container has it: the download until that is done, then the runner."""

    name: str
    uid: str
    hash: str
    container: str = CONTAINER
    node: str = ""
    is_ready: bool = False
    is_started: bool = False
    """Its startup probe succeeded: the runner has loaded its model."""
    going_until: datetime | None = None
    """Somebody deleted it: it ends its work, and has until then."""
    is_lost: bool = False
    """Nothing is heard of it any more."""
    eviction: Eviction | None = None
    running_since: str = ""
    """RFC 3339; empty while no container runs."""
    restarts: int = 0
    end: End | None = None
    waiting: tuple[str, str] = ("", "")
    """Reason and message of the kubelet."""
    unschedulable: str = ""
    """The scheduler's message."""
    memory_limit: str = ""
    owner: str = ""
    """Of its model."""
    deletion_cost: str = "0"
    progress: DownloadProgress | None = None
    """Of a download that runs, if its log was read and says so."""

    @property
    def is_fetched(self) -> bool:
        """Whether a download is done, or there was none to do."""
        return self.container == CONTAINER

    @property
    def is_going(self) -> bool:
        return self.going_until is not None

    @property
    def is_downloading(self) -> bool:
        return not self.is_fetched and bool(self.running_since)

    @property
    def is_loading(self) -> bool:
        is_up = self.is_ready or self.is_started
        return self.is_fetched and bool(self.running_since) and not is_up


def parse(pod: Mapping[str, Any]) -> RunnerPod | None:
    """The pod of an API server's answer; None if it has ended for good, but not by an eviction."""
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
    going_until = metadata.get("deletionTimestamp")
    return RunnerPod(
        name=metadata["name"],
        uid=metadata["uid"],
        hash=metadata.get("labels", {}).get(LABEL_HASH, ""),
        container=name,
        node=pod.get("spec", {}).get("nodeName", ""),
        is_ready=is_ready,
        # The kubelet calls a download started, too.
        is_started=name == CONTAINER and bool(container.get("started")),
        going_until=datetime.fromisoformat(going_until) if going_until else None,
        # The kubelet's last word stands, and the node controller says otherwise.
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
    """With those lost that should have ended by now: nothing is known to run in them."""
    return [
        replace(pod, is_lost=True, running_since="") if _is_overdue(pod, now) else pod
        for pod in pods
    ]


def next_overdue(pods: Iterable[RunnerPod], now: datetime) -> float:
    """Seconds until another pod should have ended; inf if none shall."""
    ends = [pod.going_until + OVERDUE - now for pod in pods if pod.going_until]
    return min((end.total_seconds() for end in ends if end > timedelta()), default=inf)


def recent(evicted: Iterable[RunnerPod], now: datetime) -> list[RunnerPod]:
    """Those that are news still: Kubernetes keeps them for long."""
    return [pod for pod in evicted if pod.eviction and now - pod.eviction.at < RECENT]


def _is_overdue(pod: RunnerPod, now: datetime) -> bool:
    return pod.going_until is not None and now >= pod.going_until + OVERDUE


def _eviction(pod: Mapping[str, Any]) -> Eviction | None:
    """A runner that ended with an error has no such reason: the kubelet starts it again."""
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
    """The container that is to work now, and its status: empty before the kubelet's first word."""
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
