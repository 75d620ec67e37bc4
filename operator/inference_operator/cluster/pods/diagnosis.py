"""Finds the problem of a pod in its status, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from inference_contract.inferencemodel import Reason
from inference_contract.pods import RunnerExit
from inference_operator.cluster.pods.runner_pod import End, Eviction, RunnerPod
from inference_operator.exit_codes import in_words

FAILED_STARTS = (Reason.LOAD_FAILED, Reason.OOM_KILLED, Reason.CRASH_LOOP_BACK_OFF)
"""The runner or its download started and failed: its log says why."""
_PULL_REASONS = {
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"),
}
_CREATE_REASONS = {
    *("CreateContainerError", "RunContainerError"),
    *("PreCreateHookError", "PreStartHookError", "PostStartHookError"),
}
_ORDER = (
    *(*FAILED_STARTS, Reason.IMAGE_PULL_BACK_OFF, Reason.CREATE_CONTAINER_CONFIG_ERROR),
    *(Reason.CREATE_CONTAINER_ERROR, Reason.UNSCHEDULABLE, Reason.EVICTED, Reason.NODE_LOST),
)
_PLACEMENT_HINTS = {
    "insufficient": "lower spec.pod.resources or its placement's demands, or add a node",
    "persistentvolume": "create the claim, or correct spec.source.pvc or "
    "spec.cache.storageClassName",
    "": "correct spec.pod.nodeSelector or spec.pod.tolerations, or add a node",
}
"""Hints by a part of the scheduler's message; the first match counts."""


@dataclass(frozen=True)
class PodProblem:
    """Why a pod does not serve, and what to do about it."""

    reason: Reason
    message: str
    pod: RunnerPod
    log_tail: Sequence[str] = ()

    @property
    def has_log(self) -> bool:
        return self.pod.end is not None and self.reason in FAILED_STARTS


_LIMITS = ("exceeded quota", "failed quota", "maximum storage usage per")


def refused_for(said: str, otherwise: Reason) -> Reason:
    """The reason of a rejection, from the API server's message; else `otherwise`."""
    is_limit = any(words in said for words in _LIMITS)
    return Reason.NO_CAPACITY if is_limit else otherwise


def worst(pods: Collection[RunnerPod]) -> PodProblem | None:
    """The problem to report; problems that only the user can correct come first.

    An eviction no longer counts once another pod is ready or is downloading.
    """
    gets_on = any(pod.is_ready or pod.progress for pod in pods)
    faulty = (pod for pod in pods if not (gets_on and pod.eviction))
    found = [problem for pod in faulty if (problem := diagnose(pod))]
    return min(found, key=lambda t: (_ORDER.index(t.reason), t.pod.name), default=None)


def diagnose(pod: RunnerPod) -> PodProblem | None:
    """The problem that keeps a pod from working; None if it works or only needs time."""
    if pod.is_terminating or pod.is_ready:
        return None
    if pod.eviction:
        return PodProblem(Reason.EVICTED, _eviction_message(pod.node, pod.eviction), pod)
    if pod.is_lost:
        return PodProblem(Reason.NODE_LOST, _lost(pod), pod)
    if pod.unschedulable:
        return PodProblem(Reason.UNSCHEDULABLE, _no_node(pod.unschedulable), pod)
    if problem := _of_waiting(pod):
        return problem
    if pod.progress is not None:
        return None  # It failed before, and makes progress now.
    return _after_end(pod, pod.end) if pod.end else None


def last_error(log_tail: Sequence[str]) -> str:
    """The error in a runner's last log lines; empty if they have none."""
    for line in reversed(log_tail):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
            return str(entry.get("error") or entry.get("event") or "")
    return next((line for line in reversed(log_tail) if line.strip()), "")


def _of_waiting(pod: RunnerPod) -> PodProblem | None:
    reason, said = pod.waiting
    if reason in _PULL_REASONS:
        return PodProblem(Reason.IMAGE_PULL_BACK_OFF, _pull(reason, said), pod)
    message = f"the container cannot start: {said or reason}"
    if reason == Reason.CREATE_CONTAINER_CONFIG_ERROR:
        message = f"{message}; create what is missing, or correct spec.env"
        return PodProblem(Reason.CREATE_CONTAINER_CONFIG_ERROR, message, pod)
    if reason in _CREATE_REASONS:
        return PodProblem(Reason.CREATE_CONTAINER_ERROR, message, pod)
    return None


def _after_end(pod: RunnerPod, end: End) -> PodProblem | None:
    times = f"{pod.restarts} restarts so far"
    if end.reason == "OOMKilled":
        limit = f"its limit of {pod.memory_limit}" if pod.memory_limit else "the node's memory"
        who = "the runner" if pod.is_fetched else "the download"
        message = f"{who} needs more than {limit}: raise spec.pod.resources.limits.memory"
        return PodProblem(Reason.OOM_KILLED, f"{message}; {times}", pod)
    if not pod.is_fetched:
        return PodProblem(Reason.LOAD_FAILED, f"the model was not downloaded; {times}", pod)
    if end.code in (RunnerExit.LOAD_FAILED, RunnerExit.MISCONFIGURED):
        return PodProblem(Reason.LOAD_FAILED, f"the model did not load; {times}", pod)
    if pod.restarts > 1 or pod.waiting[0] == "CrashLoopBackOff":
        return PodProblem(
            Reason.CRASH_LOOP_BACK_OFF, f"{in_words(_signed(end.code))}; {times}", pod
        )
    return None


def _no_node(said: str) -> str:
    hint = next(hint for word, hint in _PLACEMENT_HINTS.items() if word in said.lower())
    return f"no node takes the pod: {said.rstrip('.')}; {hint}"


def _eviction_message(node: str, eviction: Eviction) -> str:
    message = f"node {node} put the pod out: {eviction.reason}: {eviction.message}"
    if eviction.reason != Reason.EVICTED:
        return message
    return f"{message}; ask in spec.pod.resources for what the model needs"


def _lost(pod: RunnerPod) -> str:
    return (
        f"nothing is heard of node {pod.node}: its runner is replaced when Kubernetes gives the "
        f"node up, or at once with kubectl delete pod {pod.name}"
    )


def _pull(reason: str, said: str) -> str:
    """The same text for the kubelet's two alternating messages about a failed pull."""
    _, found, error = said.partition(": ErrImagePull: ")
    detail = (error if found else said).strip() or reason
    return f"the image cannot be pulled: {detail}; correct spec.pod.image, or let nodes pull it"


def _signed(code: int) -> int:
    """A shell's exit code as `subprocess` has it: 137 becomes -9."""
    return 128 - code if 128 < code < 160 else code
