"""The status of a model: its conditions, each with a reason and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from inference_contract.inferencemodel import (
    ConditionStatus,
    ConditionType,
    InferenceModelStatus,
    Reason,
)
from inference_contract.pods import RunnerPhase
from inference_operator.findings import Finding, conditions, scaling
from inference_operator.local.failures import Failure
from inference_operator.local.runners import Runner
from inference_operator.scaling.decide import Decision
from inference_operator.scaling.load import Load

_TRUE, _FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE


@dataclass(frozen=True)
class View:
    """The input of a model's status. Times are seconds of the monotonic clock."""

    generation: int
    now: float
    decision: Decision | None
    """None if the document is invalid and no earlier valid one is known."""
    runners: Sequence[Runner] = ()
    failures: Collection[Failure] = ()
    load: Load | None = None
    """None if it could not be read from Redis."""
    is_refused: bool = False
    """Whether a replica waits for capacity of this machine."""
    invalid: str = ""
    """The error in the document; empty if it is valid."""

    @property
    def replicas(self) -> int:
        return self.decision.replicas if self.decision else 0

    @property
    def ready(self) -> int:
        return sum(runner.is_ready for runner in self.runners)


def status(view: View, previous: InferenceModelStatus | None, at: datetime) -> InferenceModelStatus:
    """The current status.

    Args:
        previous: the last status; an unchanged condition keeps its transition time.
        at: now, by the wall clock.
    """
    previous = previous or InferenceModelStatus()
    worst = _worst(view)
    findings = {
        ConditionType.READY: _ready(view, worst, has_started=_has_started(view, previous)),
        ConditionType.PROGRESSING: _progressing(view),
        ConditionType.SCALING_ACTIVE: scaling(view.decision),
    }
    return InferenceModelStatus(
        observed_generation=view.generation,
        replicas=len(view.runners),
        ready_replicas=view.ready,
        queued=view.load.waiting if view.load else previous.queued,
        in_flight=view.load.in_flight if view.load else previous.in_flight,
        conditions=conditions(findings, view.generation, previous, at),
        log_tail=list(worst.log_tail) if worst else [],
    )


def _worst(view: View) -> Failure | None:
    """The failure to report: a failed load comes before a crash, then the latest one."""
    order = {Reason.LOAD_FAILED: 1, Reason.CRASH_LOOP_BACK_OFF: 0}
    return max(view.failures, key=lambda f: (order[f.reason], f.at), default=None)


def _has_started(view: View, previous: InferenceModelStatus) -> bool:
    """Whether a runner of this document was ever ready."""
    ready = previous.condition(ConditionType.READY)
    return (
        ready is not None and ready.status is _TRUE and ready.observed_generation == view.generation
    )


def _ready(view: View, worst: Failure | None, *, has_started: bool) -> Finding:
    if view.invalid:
        going_on = " (the last valid document stays in force)" if view.decision else ""
        return _FALSE, Reason.INVALID_MODEL, f"correct the document: {view.invalid}{going_on}"
    if view.ready:
        return _TRUE, Reason.READY, "; ".join(_how_ready(view, worst))
    if worst and (worst.reason is Reason.LOAD_FAILED or worst.count > 1):
        return _FALSE, worst.reason, f"{worst.message}; {_next_start(view, worst)}"
    if not view.replicas:
        known = _TRUE if has_started else ConditionStatus.UNKNOWN
        if view.runners:
            return known, Reason.SCALED_TO_ZERO, "stopping; starts with the next prediction"
        if not has_started:
            return known, Reason.SCALED_TO_ZERO, _NOT_YET
        return known, Reason.SCALED_TO_ZERO, "starts with the next prediction"
    if view.is_refused and not view.runners:
        return _FALSE, Reason.NO_CAPACITY, _NO_ROOM
    return _FALSE, Reason.LOADING_MODEL, _loading(view, worst)


_NOT_YET = "starts with the first prediction, which shows whether it loads"
_NO_ROOM = (
    "every runner that this machine has room for, or your share of them, is in use: lower another "
    "model's minReplicas, or raise LOCAL_MAX_RUNNERS"
)


def _how_ready(view: View, worst: Failure | None) -> Iterator[str]:
    yield f"{view.ready} of {view.replicas} replicas ready"
    if worst and view.ready < view.replicas:
        yield f"{worst.message}, {_next_start(view, worst)}"
    elif view.is_refused:
        yield _NO_ROOM


def _next_start(view: View, failure: Failure) -> str:
    if not view.replicas:
        return "tries again with the next prediction"
    seconds = failure.next_start - view.now
    return f"next start in {_about(seconds)} s" if seconds > 0 else "starting again"


def _loading(view: View, worst: Failure | None) -> str:
    starting = [r.started for r in view.runners if r.stop_by is None]
    if starting:
        return f"loading since {_about(view.now - min(starting))} s"
    if view.runners:
        return f"waiting for {len(view.runners)} old runners to finish their predictions"
    return f"{worst.message}; {_next_start(view, worst)}" if worst else "starting"


def _about(seconds: float) -> int:
    """Rounded, more coarsely for long times, so that the status does not change every second."""
    step = 1 if seconds < 15 else 5 if seconds < 60 else 30
    return max(step, round(seconds / step) * step)


def _progressing(view: View) -> Finding:
    if view.decision is None:
        return _FALSE, Reason.INVALID_MODEL, "nothing starts until the document is valid"
    draining = [runner for runner in view.runners if runner.stop_by is not None]
    if draining:
        return _TRUE, "Draining", f"{len(draining)} replicas finish their predictions and stop"
    if any(runner.phase is RunnerPhase.LOADING for runner in view.runners):
        return _TRUE, Reason.LOADING_MODEL, f"{view.ready} of {view.replicas} replicas ready"
    if len(view.runners) < view.replicas:
        if view.is_refused:
            return _FALSE, Reason.NO_CAPACITY, _NO_ROOM
        return _TRUE, "Starting", f"{len(view.runners)} of {view.replicas} replicas started"
    return _FALSE, "Stable", f"{view.replicas} replicas, as wanted"
