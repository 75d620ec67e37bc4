"""What is known of the runners of this machine: those that run, and how others ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_contract.pods import RunnerPhase

Slot = tuple[str, int]
"""A model's id and the number of one of its replicas."""


@dataclass(frozen=True)
class Runner:
    """A live process. Times are seconds of the monotonic clock."""

    model: str
    slot: int
    name: str
    hash: str
    started: float
    grace_seconds: float
    phase: RunnerPhase = RunnerPhase.LOADING
    ready_since: float | None = None
    stop_by: float | None = None
    """When it is killed; None as long as nobody told it to stop."""

    @property
    def is_ready(self) -> bool:
        return self.phase is RunnerPhase.READY and self.stop_by is None


@dataclass(frozen=True)
class Exit:
    """A process that is gone."""

    runner: Runner
    code: int | None
    """As subprocess has it: negative for a signal; None for a process that was not our child."""
    message: str = ""
    """The runner's own words, if it left any."""
    log_tail: Sequence[str] = ()
