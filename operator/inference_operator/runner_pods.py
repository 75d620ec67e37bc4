"""What the pods of a model say, and which of it is trouble."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_contract.inferencemodel import Reason
from inference_contract.pods import LABEL_HASH, LABEL_OWNER, RunnerExit
from inference_operator.failures import describe
from inference_operator.manifests.fetch import FETCH
from inference_operator.manifests.pod import CONTAINER

ANNOTATION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Of the ready pods of a ReplicaSet that is scaled down, those of the lowest cost go first."""

_PULL_REASONS = {
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"),
}
_CREATE_REASONS = {
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    *("PreCreateHookError", "PreStartHookError", "PostStartHookError"),
}
_ORDER = (
    *(Reason.LOAD_FAILED, Reason.OOM_KILLED, Reason.CRASH_LOOP_BACK_OFF),
    *(Reason.IMAGE_PULL_BACK_OFF, Reason.UNSCHEDULABLE, Reason.STARTING),
)


@dataclass(frozen=True)
class End:
    """How a container's process ended."""

    code: int
    reason: str
    is_last: bool
    """Whether a later start has not begun: then its log is the container's current one."""


@dataclass(frozen=True)
class Progress:
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
    is_going: bool = False
    """Somebody deleted it; it ends its work."""
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
    progress: Progress | None = None
    """Of a download that runs, if its log was read and says so."""

    @property
    def is_fetched(self) -> bool:
        """Whether a download is done, or there was none to do."""
        return self.container == CONTAINER

    @property
    def is_downloading(self) -> bool:
        return not self.is_fetched and bool(self.running_since)

    @property
    def is_loading(self) -> bool:
        return self.is_fetched and bool(self.running_since) and not self.is_ready


@dataclass(frozen=True)
class Trouble:
    """Why a pod serves nothing, and what to do about it."""

    reason: Reason
    message: str
    pod: RunnerPod
    log_tail: Sequence[str] = ()

    @property
    def has_log(self) -> bool:
        return self.pod.end is not None and self.reason in (
            *(Reason.LOAD_FAILED, Reason.OOM_KILLED, Reason.CRASH_LOOP_BACK_OFF),
        )


def parse(pod: Mapping[str, Any]) -> RunnerPod | None:
    """The pod of an API server's answer; None if it has ended for good (evicted, for instance)."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if status.get("phase") in ("Failed", "Succeeded"):
        return None
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    name, container = _current(pod)
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    is_unschedulable = scheduled.get("reason") == "Unschedulable"
    return RunnerPod(
        name=metadata["name"],
        uid=metadata["uid"],
        hash=metadata.get("labels", {}).get(LABEL_HASH, ""),
        container=name,
        node=pod.get("spec", {}).get("nodeName", ""),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_going="deletionTimestamp" in metadata,
        running_since=state.get("running", {}).get("startedAt") or "",
        restarts=container.get("restartCount", 0),
        end=_end(container),
        waiting=(waiting.get("reason", ""), waiting.get("message", "")),
        unschedulable=scheduled.get("message", "") if is_unschedulable else "",
        deletion_cost=metadata.get("annotations", {}).get(ANNOTATION_COST, "0"),
        memory_limit=_memory_limit(pod, name),
        owner=metadata.get("labels", {}).get(LABEL_OWNER, ""),
    )


def worst(pods: Iterable[RunnerPod]) -> Trouble | None:
    """The trouble to tell of: what only the user can mend comes first."""
    found = [trouble for pod in pods if (trouble := diagnose(pod))]
    return min(found, key=lambda t: (_ORDER.index(t.reason), t.pod.name), default=None)


def diagnose(pod: RunnerPod) -> Trouble | None:
    """What keeps a pod from its work; None if nothing does, or nothing but time."""
    if pod.is_going or pod.is_ready:
        return None
    if pod.unschedulable:
        hint = "lower spec.pod.resources or its placement's demands, or add a node"
        message = f"no node takes the pod: {pod.unschedulable.rstrip('.')}; {hint}"
        return Trouble(Reason.UNSCHEDULABLE, message, pod)
    reason, said = pod.waiting
    if reason in _PULL_REASONS:
        return Trouble(Reason.IMAGE_PULL_BACK_OFF, _pull(reason, said), pod)
    if reason in _CREATE_REASONS:
        return Trouble(Reason.STARTING, f"the container cannot start: {said or reason}", pod)
    if pod.progress is not None:
        return None  # It failed before, and gets on now.
    return _after_end(pod, pod.end) if pod.end else None


def last_words(log_tail: Sequence[str]) -> str:
    """The error in a runner's last log lines, empty if none says one."""
    for line in reversed(log_tail):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
            return str(entry.get("error") or entry.get("event") or "")
    return next((line for line in reversed(log_tail) if line.strip()), "")


def _after_end(pod: RunnerPod, end: End) -> Trouble | None:
    times = f"{pod.restarts} restarts so far"
    if end.reason == "OOMKilled":
        limit = f"its limit of {pod.memory_limit}" if pod.memory_limit else "the node's memory"
        who = "the runner" if pod.is_fetched else "the download"
        message = f"{who} needs more than {limit}: raise spec.pod.resources.limits.memory"
        return Trouble(Reason.OOM_KILLED, f"{message}; {times}", pod)
    if not pod.is_fetched:
        return Trouble(Reason.LOAD_FAILED, f"the model was not downloaded; {times}", pod)
    if end.code in (RunnerExit.LOAD_FAILED, RunnerExit.MISCONFIGURED):
        return Trouble(Reason.LOAD_FAILED, f"the model did not load; {times}", pod)
    if pod.restarts > 1 or pod.waiting[0] == "CrashLoopBackOff":
        return Trouble(Reason.CRASH_LOOP_BACK_OFF, f"{describe(_signed(end.code))}; {times}", pod)
    return None


def _pull(reason: str, said: str) -> str:
    """The kubelet says the same in two ways by turns; this says it in one."""
    _, found, error = said.partition(": ErrImagePull: ")
    detail = (error if found else said).strip() or reason
    return f"the image cannot be pulled: {detail}; correct spec.pod.image, or let nodes pull it"


def _signed(code: int) -> int:
    """A shell's 137 as subprocess has it: -9."""
    return 128 - code if 128 < code < 160 else code


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
