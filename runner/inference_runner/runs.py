"""A prediction in this runner's hands, and how it may end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from inference_contract.predictions import ErrorCode, EventType, Job


@dataclass(slots=True, eq=False)
class Run:
    """One claimed attempt. `announced` and `ended` change under the emitter's lock only."""

    job: Job
    job_id: str
    execution: str
    """RQ's execution id."""
    begun: float | None = None
    """Monotonic time at which the model got it."""
    canceled: bool = False
    """Somebody wants it stopped."""
    announced: bool = False
    """`started` is in the events."""
    ended: bool = False
    sequence: int = 0
    """Entries in the prediction's own stream so far."""

    @property
    def id(self) -> str:
        return self.job["id"]

    @property
    def attempt(self) -> int:
        return self.job["attempt"]

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what a runner died of: then it runs alone."""
        return self.job["crashes"] > 0

    @property
    def lease(self) -> str:
        """RQ's composite key: the member of the started registry."""
        return f"{self.job_id}:{self.execution}"

    def begin(self) -> None:
        self.begun = time.monotonic()

    def elapsed(self) -> float:
        return 0.0 if self.begun is None else time.monotonic() - self.begun


@dataclass(slots=True)
class Outcome:
    """How a run ended: what its terminal event says."""

    type: EventType
    output: Any = None
    error: str | None = None
    error_code: ErrorCode | None = None
    logs: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


def succeeded(output: Any, metrics: dict[str, float] | None = None) -> Outcome:
    return Outcome(EventType.SUCCEEDED, output, metrics=metrics or {})


def failed(error: str, code: ErrorCode, *, output: Any = None, logs: str = "") -> Outcome:
    return Outcome(EventType.FAILED, output, error, code, logs)


def canceled(output: Any = None) -> Outcome:
    return Outcome(EventType.CANCELED, output, "Prediction was canceled.", ErrorCode.CANCELED)


def timed_out(seconds: float, output: Any = None) -> Outcome:
    message = f"The prediction ran longer than timeouts.predictSeconds, {seconds:g} s."
    return failed(message, ErrorCode.TIMEOUT, output=output)
