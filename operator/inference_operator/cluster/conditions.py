"""The status of a model whose runners are pods.

No message counts seconds, so that the status of an idle model does not change and is not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from inference_contract.inferencemodel import (
    ConditionStatus,
    ConditionType,
    InferenceModelStatus,
    Reason,
    RolloutStatus,
)
from inference_operator.cluster.pods import downloads
from inference_operator.cluster.pods.diagnosis import FAILED_STARTS, PodProblem, refused_for
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.findings import Finding, conditions, scaling
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_NO_ROOM = (Reason.UNSCHEDULABLE, Reason.NO_CAPACITY)
"""A terminating runner may free the capacity that another waits for."""


@dataclass(frozen=True)
class PodView:
    """The input of a valid model's status."""

    generation: int
    decision: Decision
    selector: str
    pods: Sequence[RunnerPod] = ()
    hash: str = ""
    """Hash of the wanted pods; pods of another hash are being replaced."""
    version: str = ""
    """Version in the document."""
    rollout: RolloutStatus = field(default_factory=RolloutStatus)
    problem: PodProblem | None = None
    """The problem of the wanted pods."""
    load: Load | None = None
    """None if it could not be read from Redis."""
    deployment: str = ""
    """The Deployment's name."""
    no_pods: str = ""
    """Why the Deployment can create no pods; empty if it can."""
    repo: str = ""
    """The repository on a hub that pods download first; empty for other sources."""

    @property
    def wanted(self) -> int:
        return self.decision.replicas

    @property
    def terminating(self) -> int:
        return sum(pod.is_terminating and not pod.is_lost for pod in self.pods)

    @property
    def lost(self) -> Sequence[RunnerPod]:
        """Deleted pods whose node does not report their end."""
        return [pod for pod in self.pods if pod.is_terminating and pod.is_lost]

    @property
    def staying(self) -> Sequence[RunnerPod]:
        return [pod for pod in self.pods if not pod.is_terminating]

    @property
    def downloading(self) -> Sequence[RunnerPod]:
        return [pod for pod in self.staying if pod.is_downloading]

    @property
    def loading(self) -> Sequence[RunnerPod]:
        return [pod for pod in self.staying if pod.is_loading]

    @property
    def ready(self) -> int:
        return sum(pod.is_ready for pod in self.staying)


def status(
    view: PodView, previous: InferenceModelStatus | None, at: datetime
) -> InferenceModelStatus:
    """The current status.

    Args:
        previous: the last status; an unchanged condition keeps its transition time.
        at: now, by the wall clock.
    """
    previous = previous or InferenceModelStatus()
    failed = _failed_start(view, previous)
    told = view.problem.log_tail if view.problem else ()
    findings = {
        ConditionType.READY: failed or _ready(view),
        ConditionType.PROGRESSING: _progressing(view),
        ConditionType.SCALING_ACTIVE: scaling(view.decision, view.deployment),
    }
    if view.repo:
        findings[ConditionType.ARTIFACT_CACHED] = _cached(view)
    return InferenceModelStatus(
        observed_generation=view.generation,
        replicas=len(view.pods),
        ready_replicas=view.ready,
        queued=view.load.waiting if view.load else previous.queued,
        in_flight=view.load.in_flight if view.load else previous.in_flight,
        selector=view.selector,
        rollout=view.rollout,
        conditions=conditions(findings, view.generation, previous, at),
        log_tail=list(previous.log_tail if failed else told),
    )


def refused(
    reason: Reason,
    message: str,
    generation: int,
    previous: InferenceModelStatus | None,
    at: datetime,
) -> InferenceModelStatus:
    """The status of a model that the operator cannot run until its user changes something."""
    previous = previous or InferenceModelStatus()
    finding = _FALSE, reason, message
    idle = _FALSE, reason, "nothing starts, stops or scales until Ready says otherwise"
    findings: dict[ConditionType, Finding] = {
        ConditionType.READY: finding,
        ConditionType.PROGRESSING: idle,
        ConditionType.SCALING_ACTIVE: idle,
    }
    return previous.model_copy(
        update={
            "observed_generation": generation,
            "conditions": conditions(findings, generation, previous, at),
        }
    )


def _failed_start(view: PodView, previous: InferenceModelStatus) -> Finding | None:
    """A failed start still counts after scaling to zero: no later start was tried."""
    ready = previous.condition(ConditionType.READY)
    if view.wanted or ready is None or ready.observed_generation != view.generation:
        return None
    is_failure = ready.reason in FAILED_STARTS
    return (ready.status, ready.reason, ready.message) if is_failure else None


def _ready(view: PodView) -> Finding:
    obstacle = _obstacle(view)
    if view.ready:
        message = f"{view.ready} of {view.wanted} replicas ready"
        if obstacle and view.ready < view.wanted:
            message = f"{message}; {': '.join(obstacle)}"
        return _TRUE, Reason.READY, message
    if not view.wanted:
        has_started = view.rollout.hash == view.hash != ""
        return (_TRUE if has_started else _UNKNOWN), Reason.SCALED_TO_ZERO, _scaled_to_zero(view)
    reason, message = obstacle or _wait(view)
    return _FALSE, reason, "; ".join([message, *map(_lost_message, view.lost)])


def _scaled_to_zero(view: PodView) -> str:
    if view.decision.reason is Why.EXTERNAL:
        return "predictions wait until somebody scales the Deployment up"
    if len(view.pods) > len(view.lost):
        return "stopping; starts with the next prediction"
    if view.rollout.hash != view.hash:
        return "starts with the first prediction, which shows whether it loads"
    return "starts with the next prediction"


def _lost_message(pod: RunnerPod) -> str:
    return f"pod {pod.name} was to end, and nothing is heard of it from node {pod.node}"


def _obstacle(view: PodView) -> tuple[Reason, str] | None:
    """The problem that keeps replicas from working and does not pass by itself."""
    if view.problem:
        reason, message = view.problem.reason, view.problem.message
    elif view.no_pods and not view.loading and not view.downloading:
        reason = refused_for(view.no_pods, Reason.PODS_REFUSED)
        message = f"no pod can be made: {view.no_pods}"
    else:
        return None
    return None if view.terminating and reason in _NO_ROOM else (reason, message)


def _wait(view: PodView) -> tuple[Reason, str]:
    """The progress of the most advanced pod that is not ready."""
    started = [pod for pod in view.staying if pod.is_started and not pod.is_ready]
    if started:
        message = f"the runner in pod {started[0].name} is up, and does not say that it is ready"
        return Reason.NOT_READY, message
    if view.loading:
        since = min(pod.running_since for pod in view.loading)
        return Reason.LOADING_MODEL, f"loading since {since}"
    if view.downloading:
        return Reason.DOWNLOADING_MODEL, downloads.message(view.repo, view.downloading)
    return Reason.STARTING, _starting(view)


def _starting(view: PodView) -> str:
    placed = [pod for pod in view.staying if pod.node]
    if placed:
        return f"node {placed[0].node} prepares the container: its image, its volumes"
    if view.terminating:
        return f"waiting for {view.terminating} old runners to finish their predictions"
    return "waiting for a node"


def _progressing(view: PodView) -> Finding:
    if view.rollout.failed_hash:
        return _FALSE, Reason.ROLLOUT_FAILED, _rolled_back(view)
    if view.terminating:
        return _TRUE, "Draining", f"{view.terminating} replicas finish their predictions and stop"
    if view.wanted and (obstacle := _obstacle(view)):
        return _FALSE, obstacle[0], f"{view.ready} of {view.wanted} replicas ready"
    old = sum(pod.hash != view.hash for pod in view.staying)
    if old:
        return _TRUE, "Updating", f"{old} replicas of an earlier document are still to be replaced"
    if view.ready < view.wanted:
        return _TRUE, _wait(view)[0], f"{view.ready} of {view.wanted} replicas ready"
    return _FALSE, "Stable", f"{view.wanted} replicas, as wanted"


def _rolled_back(view: PodView) -> str:
    why = view.rollout.failed_message
    return (
        f"version {view.rollout.version} serves on, for version {view.version} did not become "
        f"ready ({why}): correct the spec; another spec.version tries it again"
    )


def _cached(view: PodView) -> Finding:
    current = [pod for pod in view.staying if pod.hash == view.hash]
    if any(pod.is_fetched for pod in current):
        return _TRUE, "Cached", f"{view.repo} is where its runners look for it"
    if view.problem and view.problem.has_log and not view.problem.pod.is_fetched:
        return _FALSE, view.problem.reason, view.problem.message
    if view.downloading:
        return _FALSE, Reason.DOWNLOADING_MODEL, downloads.message(view.repo, view.downloading)
    return _UNKNOWN, "NotLookedUp", "a starting pod looks it up, and downloads what is missing"
