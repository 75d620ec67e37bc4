"""Why runners failed, and when to start them again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference_contract import backoff
from inference_contract.inferencemodel import Reason
from inference_contract.pods import RunnerExit, RunnerPhase
from inference_operator.exit_codes import in_words
from inference_operator.local.runners import Exit, Runner, Slot
from inference_operator.plan import RunnerPlan

FIRST_BACKOFF = 1.0
MAX_BACKOFF = 300.0
MAX_BACKOFF_AFTER_READY = 5.0
"""Seconds, for a runner that was ready when it was killed, for example for lack of memory:
MAX_ATTEMPTS ends the prediction that it ran, and others wait. A runner restarts its own child
process when only that dies."""
HEALTHY_AFTER = 60.0
"""Seconds of Ready after which earlier deaths no longer count."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why a slot has no healthy runner, and when to try again."""

    hash: str
    reason: Reason
    message: str
    count: int
    """Failures in a row."""
    at: float
    log_tail: Sequence[str] = ()
    was_ready: bool = False

    @property
    def next_start(self) -> float:
        longest = MAX_BACKOFF_AFTER_READY if self.was_ready else MAX_BACKOFF
        return self.at + backoff.pause(self.count, FIRST_BACKOFF, longest)


def after_exit(previous: Failure | None, ended: Exit, now: float) -> Failure | None:
    """The failure of a slot after its runner exited; None if the exit was not a failure."""
    runner = ended.runner
    was_ready = runner.ready_since is not None
    if runner.stop_by is not None and runner.phase is not RunnerPhase.FAILED:
        return None if was_ready else previous
    healthy = runner.ready_since is not None and now - runner.ready_since >= HEALTHY_AFTER
    in_a_row = previous is not None and previous.hash == runner.hash and not healthy
    if previous is not None and previous.was_ready and not was_ready:
        in_a_row = False  # A failed start is a new failure: earlier deaths came from predictions.
    load_failed = (
        ended.code in (RunnerExit.LOAD_FAILED, RunnerExit.MISCONFIGURED)
        or runner.phase is RunnerPhase.FAILED
    )
    return Failure(
        hash=runner.hash,
        reason=Reason.LOAD_FAILED if load_failed else Reason.CRASH_LOOP_BACK_OFF,
        message=ended.message if load_failed and ended.message else in_words(ended.code),
        count=previous.count + 1 if previous and in_a_row else 1,
        at=now,
        log_tail=tuple(ended.log_tail),
        was_ready=was_ready,
    )


class Failures(Mapping[Slot, Failure]):
    """The failures of slots without a healthy runner."""

    def __init__(self) -> None:
        self._failures: dict[Slot, Failure] = {}

    def __getitem__(self, slot: Slot) -> Failure:
        return self._failures[slot]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._failures)

    def __len__(self) -> int:
        return len(self._failures)

    def note(self, ended: Exit, now: float) -> Failure | None:
        """Record how a runner ended. Returns the slot's failure, if this end is a new one."""
        runner = ended.runner
        slot = (runner.model, runner.slot)
        before = self._failures.pop(slot, None)
        failure = after_exit(before, ended, now)
        if failure is not None:
            self._failures[slot] = failure
        if failure is None or failure is before:
            log.info("runner %s ended", runner.name, extra={"model": runner.model})
            return None
        log.warning(
            "runner %s failed, %d in a row: %s",
            runner.name or slot,
            failure.count,
            failure.message,
            extra={"model": runner.model},
        )
        return failure

    def prune(
        self, desired: Mapping[str, RunnerPlan | None], runners: Sequence[Runner], now: float
    ) -> None:
        """Drop failures whose model is deleted or changed, or has only healthy replicas."""
        for slot, failure in list(self._failures.items()):
            model = slot[0]
            plan = desired.get(model)
            if plan is None:
                is_past = model not in desired
            else:
                is_healthy = 0 < plan.replicas <= _healthy(runners, model, now)
                is_past = failure.hash != plan.hash or is_healthy
            if is_past:
                del self._failures[slot]

    def of(self, model: str) -> Collection[Failure]:
        return [failure for slot, failure in self._failures.items() if slot[0] == model]


def _healthy(runners: Sequence[Runner], model: str, now: float) -> int:
    return sum(
        runner.model == model
        and runner.ready_since is not None
        and now - runner.ready_since >= HEALTHY_AFTER
        for runner in runners
    )
