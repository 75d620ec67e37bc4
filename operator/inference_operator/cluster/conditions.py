"""The status of a model whose runners are pods.

No message counts seconds: at rest a status stays as it is, and nobody writes it.
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
from inference_operator.cluster.pods.diagnosis import FAILED_STARTS, Trouble, refused_for
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.findings import Finding, conditions, scaling
from inference_operator.scaling.decide import Decision, Why
from inference_operator.scaling.load import Load

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_NO_ROOM = (Reason.UNSCHEDULABLE, Reason.NO_CAPACITY)
"""A runner that ends its work may leave the room that another waits for."""


@dataclass(frozen=True)
class PodView:
    """All that the status of a valid model is made of."""

    generation: int
    decision: Decision
    selector: str
    pods: Sequence[RunnerPod] = ()
    hash: str = ""
    """Of the pods that shall be; others are being replaced."""
    version: str = ""
    """Of the document."""
    rollout: RolloutStatus = field(default_factory=RolloutStatus)
    trouble: Trouble | None = None
    """Of the pods that shall be."""
    load: Load | None = None
    """None if Redis did not say."""
    deployment: str = ""
    """Its name."""
    no_pods: str = ""
    """Why the Deployment can make no pods."""
    repo: str = ""
    """Of a hub, that pods download first; empty: the model is elsewhere."""

    @property
    def wanted(self) -> int:
        return self.decision.replicas

    @property
    def going(self) -> int:
        return sum(pod.is_going and not pod.is_lost for pod in self.pods)

    @property
    def lost(self) -> Sequence[RunnerPod]:
        """They were to go, and nobody hears whether they have."""
        return [pod for pod in self.pods if pod.is_going and pod.is_lost]

    @property
    def staying(self) -> Sequence[RunnerPod]:
        return [pod for pod in self.pods if not pod.is_going]

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
    """The status that is true now.

    Args:
        previous: the last one; a condition that still has its status keeps its transition time.
        at: now, by the wall clock.
    """
    previous = previous or InferenceModelStatus()
    failed = _failed_start(view, previous)
    told = view.trouble.log_tail if view.trouble else ()
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
    """The status of a model that the operator does nothing for until somebody acts."""
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
    """What is still true of a model that sleeps since: nothing else was tried."""
    ready = previous.condition(ConditionType.READY)
    if view.wanted or ready is None or ready.observed_generation != view.generation:
        return None
    is_failure = ready.reason in FAILED_STARTS
    return (ready.status, ready.reason, ready.message) if is_failure else None


def _ready(view: PodView) -> Finding:
    hindrance = _hindrance(view)
    if view.ready:
        message = f"{view.ready} of {view.wanted} replicas ready"
        if hindrance and view.ready < view.wanted:
            message = f"{message}; {': '.join(hindrance)}"
        return _TRUE, Reason.READY, message
    if not view.wanted:
        has_started = view.rollout.hash == view.hash != ""
        return (_TRUE if has_started else _UNKNOWN), Reason.SCALED_TO_ZERO, _asleep(view)
    reason, message = hindrance or _wait(view)
    return _FALSE, reason, "; ".join([message, *map(_unheard_of, view.lost)])


def _asleep(view: PodView) -> str:
    if view.decision.reason is Why.EXTERNAL:
        return "predictions wait until somebody scales the Deployment up"
    if len(view.pods) > len(view.lost):
        return "stopping; starts with the next prediction"
    if view.rollout.hash != view.hash:
        return "starts with the first prediction, which shows whether it loads"
    return "starts with the next prediction"


def _unheard_of(pod: RunnerPod) -> str:
    return f"pod {pod.name} was to end, and nothing is heard of it from node {pod.node}"


def _hindrance(view: PodView) -> tuple[Reason, str] | None:
    """What keeps replicas from their work and does not pass by itself."""
    if view.trouble:
        reason, message = view.trouble.reason, view.trouble.message
    elif view.no_pods and not view.loading and not view.downloading:
        reason = refused_for(view.no_pods, Reason.PODS_REFUSED)
        message = f"no pod can be made: {view.no_pods}"
    else:
        return None
    return None if view.going and reason in _NO_ROOM else (reason, message)


def _wait(view: PodView) -> tuple[Reason, str]:
    """The furthest that a pod has come which is not ready."""
    started = [pod for pod in view.staying if pod.is_started and not pod.is_ready]
    if started:
        message = f"the runner in pod {started[0].name} is up, and does not say that it is ready"
        return Reason.NOT_READY, message
    if view.loading:
        since = min(pod.running_since for pod in view.loading)
        return Reason.LOADING_MODEL, f"loading since {since}"
    if view.downloading:
        return Reason.DOWNLOADING_MODEL, downloads.words(view.repo, view.downloading)
    return Reason.STARTING, _starting(view)


def _starting(view: PodView) -> str:
    placed = [pod for pod in view.staying if pod.node]
    if placed:
        return f"node {placed[0].node} prepares the container: its image, its volumes"
    if view.going:
        return f"waiting for {view.going} old runners to finish their predictions"
    return "waiting for a node"


def _progressing(view: PodView) -> Finding:
    if view.rollout.failed_hash:
        return _FALSE, Reason.ROLLOUT_FAILED, _taken_back(view)
    if view.going:
        return _TRUE, "Draining", f"{view.going} replicas finish their predictions and stop"
    if view.wanted and (hindrance := _hindrance(view)):
        return _FALSE, hindrance[0], f"{view.ready} of {view.wanted} replicas ready"
    old = sum(pod.hash != view.hash for pod in view.staying)
    if old:
        return _TRUE, "Updating", f"{old} replicas of an earlier document are still to be replaced"
    if view.ready < view.wanted:
        return _TRUE, _wait(view)[0], f"{view.ready} of {view.wanted} replicas ready"
    return _FALSE, "Stable", f"{view.wanted} replicas, as wanted"


def _taken_back(view: PodView) -> str:
    why = view.rollout.failed_message
    return (
        f"version {view.rollout.version} serves on, for version {view.version} did not become "
        f"ready ({why}): correct the spec; another spec.version tries it again"
    )


def _cached(view: PodView) -> Finding:
    current = [pod for pod in view.staying if pod.hash == view.hash]
    if any(pod.is_fetched for pod in current):
        return _TRUE, "Cached", f"{view.repo} is where its runners look for it"
    if view.trouble and view.trouble.has_log and not view.trouble.pod.is_fetched:
        return _FALSE, view.trouble.reason, view.trouble.message
    if view.downloading:
        return _FALSE, Reason.DOWNLOADING_MODEL, downloads.words(view.repo, view.downloading)
    return _UNKNOWN, "NotLookedUp", "a starting pod looks it up, and downloads what is missing"
