"""Runners of this machine: live ones, and the exits of ended ones."""

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
    """When it is killed; None unless it was told to stop."""

    @property
    def is_ready(self) -> bool:
        return self.phase is RunnerPhase.READY and self.stop_by is None


@dataclass(frozen=True)
class Exit:
    """The end of a runner's process."""

    runner: Runner
    code: int | None
    """As in `subprocess`: negative for a signal; None for a process that was not our child."""
    message: str = ""
    """The error that the runner wrote before it ended, if any."""
    log_tail: Sequence[str] = ()
