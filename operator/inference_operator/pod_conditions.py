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
from inference_operator import downloads
from inference_operator.autoscale import Decision, Why
from inference_operator.loads import Load
from inference_operator.runner_pods import RunnerPod, Trouble
from inference_operator.verdicts import Verdict, conditions, scaling

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


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
    no_pods: str = ""
    """Why the Deployment can make no pods."""
    repo: str = ""
    """Of a hub, that pods download first; empty: the model is elsewhere."""

    @property
    def wanted(self) -> int:
        return self.decision.replicas

    @property
    def going(self) -> int:
        return sum(pod.is_going for pod in self.pods)

    @property
    def downloading(self) -> Sequence[RunnerPod]:
        return [pod for pod in self.pods if pod.is_downloading and not pod.is_going]

    @property
    def ready(self) -> int:
        return sum(pod.is_ready and not pod.is_going for pod in self.pods)


def status(
    view: PodView, previous: InferenceModelStatus | None, at: datetime
) -> InferenceModelStatus:
    """The status that is true now.

    Args:
        previous: the last one; a condition that still has its status keeps its transition time.
        at: now, by the wall clock.
    """
    previous = previous or InferenceModelStatus()
    verdicts = {
        ConditionType.READY: _ready(view),
        ConditionType.PROGRESSING: _progressing(view),
        ConditionType.SCALING_ACTIVE: scaling(view.decision),
    }
    if view.repo:
        verdicts[ConditionType.ARTIFACT_CACHED] = _cached(view)
    return InferenceModelStatus(
        observed_generation=view.generation,
        replicas=len(view.pods),
        ready_replicas=view.ready,
        queued=view.load.queued if view.load else previous.queued,
        in_flight=view.load.in_flight if view.load else previous.in_flight,
        selector=view.selector,
        rollout=view.rollout,
        conditions=conditions(verdicts, view.generation, previous, at),
        log_tail=list(view.trouble.log_tail) if view.trouble else [],
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
    verdict = _FALSE, reason, message
    idle = _FALSE, reason, "nothing starts, stops or scales until Ready says otherwise"
    verdicts: dict[ConditionType, Verdict] = {
        ConditionType.READY: verdict,
        ConditionType.PROGRESSING: idle,
        ConditionType.SCALING_ACTIVE: idle,
    }
    return previous.model_copy(
        update={
            "observed_generation": generation,
            "conditions": conditions(verdicts, generation, previous, at),
        }
    )


def _ready(view: PodView) -> Verdict:
    trouble = view.trouble
    if view.ready:
        message = f"{view.ready} of {view.wanted} replicas ready"
        if trouble and view.ready < view.wanted:
            message = f"{message}; {trouble.reason}: {trouble.message}"
        return _TRUE, Reason.READY, message
    if not view.wanted:
        return _TRUE, Reason.SCALED_TO_ZERO, _asleep(view)
    if trouble and not (trouble.reason is Reason.UNSCHEDULABLE and view.going):
        return _FALSE, trouble.reason, trouble.message
    loading = [pod for pod in view.pods if pod.is_loading and not pod.is_going]
    if loading:
        since = min(pod.running_since for pod in loading)
        return _FALSE, Reason.LOADING_MODEL, f"loading since {since}"
    if view.downloading:
        return _FALSE, Reason.DOWNLOADING_MODEL, downloads.words(view.repo, view.downloading)
    if view.no_pods:
        reason = Reason.NO_CAPACITY if "exceeded quota" in view.no_pods else Reason.STARTING
        return _FALSE, reason, f"no pod can be made: {view.no_pods}"
    return _FALSE, Reason.STARTING, _starting(view)


def _asleep(view: PodView) -> str:
    if view.decision.reason is Why.EXTERNAL:
        return "predictions wait until somebody scales the Deployment up"
    return (
        f"{'stopping; starts with the next' if view.pods else 'starts with the first'} prediction"
    )


def _starting(view: PodView) -> str:
    placed = [pod for pod in view.pods if pod.node and not pod.is_going]
    if placed:
        return f"node {placed[0].node} pulls the image and starts the container"
    if view.going:
        return f"waiting for {view.going} old runners to finish their predictions"
    return "waiting for a node"


def _progressing(view: PodView) -> Verdict:
    if view.rollout.failed_hash:
        return _FALSE, Reason.ROLLOUT_FAILED, _taken_back(view)
    if view.going:
        return _TRUE, "Draining", f"{view.going} replicas finish their predictions and stop"
    if view.trouble:
        return _FALSE, view.trouble.reason, f"{view.ready} of {view.wanted} replicas ready"
    old = sum(pod.hash != view.hash for pod in view.pods)
    if old:
        return _TRUE, "Updating", f"{old} replicas of an earlier document are still to be replaced"
    if view.ready < view.wanted:
        return _TRUE, _stage(view), f"{view.ready} of {view.wanted} replicas ready"
    return _FALSE, "Stable", f"{view.wanted} replicas, as wanted"


def _taken_back(view: PodView) -> str:
    why = view.rollout.failed_message
    return (
        f"version {view.rollout.version} serves on, for version {view.version} did not become "
        f"ready ({why}): correct the spec; another spec.version tries it again"
    )


def _stage(view: PodView) -> Reason:
    """The furthest that a pod has come which is not ready."""
    if any(pod.is_loading for pod in view.pods):
        return Reason.LOADING_MODEL
    return Reason.DOWNLOADING_MODEL if view.downloading else Reason.STARTING


def _cached(view: PodView) -> Verdict:
    current = [pod for pod in view.pods if pod.hash == view.hash and not pod.is_going]
    if any(pod.is_fetched for pod in current):
        return _TRUE, "Cached", f"{view.repo} is where its runners look for it"
    if view.trouble and view.trouble.has_log and not view.trouble.pod.is_fetched:
        return _FALSE, view.trouble.reason, view.trouble.message
    if view.downloading:
        return _FALSE, Reason.DOWNLOADING_MODEL, downloads.words(view.repo, view.downloading)
    return _UNKNOWN, "NotLookedUp", "a starting pod looks it up, and downloads what is missing"
