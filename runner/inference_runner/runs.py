"""A claimed prediction, and its possible outcomes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from inference_contract.predictions import ErrorCode, EventType, Job, StreamEvent
from inference_runner.prints import Prints


class Growing(Protocol):
    """The output of a run that streams."""

    @property
    def so_far(self) -> Any: ...

    def entries(self) -> list[StreamEvent]: ...


@dataclass(slots=True, eq=False)
class Run:
    """One claimed attempt. `announced`, `ended` and `sequence` change under the emitter's lock."""

    job: Job
    job_id: str
    execution: str
    """RQ's execution id."""
    data: bytes = b""
    """The job's JSON from Redis."""
    begun: float | None = None
    """Monotonic time at which the model started it."""
    waited: float = 0.0
    """Seconds since then in which the model had to pause because Redis did not answer."""
    canceled: bool = False
    """Whether its cancel was requested."""
    announced: bool = False
    """Whether `started` is among the events."""
    ended: bool = False
    sequence: int = 0
    """Entries in the prediction's own stream so far."""
    growing: Growing | None = None
    """Its output so far, if it streams."""
    prints: Prints | None = None
    next_logs: float = 0.0
    """When (monotonic) its logs may be sent again."""
    _is_given: bool = False

    def input(self) -> dict[str, Any]:
        """A new copy at each call: the model's code may have changed the last one."""
        if self._is_given:
            self.job["input"] = orjson.loads(self.data)[2][0]["input"]
        self._is_given = True
        return self.job["input"]

    def print(self, text: str) -> None:
        if self.prints is None:
            self.prints = Prints()
        self.prints.add(text)

    @property
    def logs(self) -> str:
        return self.prints.text if self.prints else ""

    @property
    def so_far(self) -> Any:
        """The output so far; None if there is none."""
        return self.growing.so_far if self.growing else None

    @property
    def id(self) -> str:
        return self.job["id"]

    @property
    def attempt(self) -> int:
        return self.job["attempt"]

    @property
    def is_suspect(self) -> bool:
        """Whether it may have killed a runner: then it runs alone."""
        return self.job["crashes"] > 0

    @property
    def lease(self) -> str:
        """RQ's composite key: the member of the started registry."""
        return f"{self.job_id}:{self.execution}"

    def begin(self) -> None:
        self.begun = time.monotonic()

    def elapsed(self) -> float:
        return 0.0 if self.begun is None else time.monotonic() - self.begun

    def worked(self) -> float:
        """Seconds that count against predictSeconds."""
        return self.elapsed() - self.waited


@dataclass(slots=True)
class Outcome:
    """The outcome of a run, for its terminal event."""

    type: EventType
    output: Any = None
    error: str | None = None
    error_code: ErrorCode | None = None
    suspect: bool = False
    """For `returned`: it may be the cause of the process' end."""
    metrics: dict[str, Any] = field(default_factory=dict)


def succeeded(output: Any, metrics: dict[str, Any] | None = None) -> Outcome:
    return Outcome(EventType.SUCCEEDED, output, metrics=metrics or {})


def failed(error: str, code: ErrorCode, *, output: Any = None) -> Outcome:
    return Outcome(EventType.FAILED, output, error, code)


def returned(*, suspect: bool) -> Outcome:
    return Outcome(EventType.RETURNED, suspect=suspect)


def canceled(output: Any = None) -> Outcome:
    return Outcome(EventType.CANCELED, output, "Prediction was canceled.", ErrorCode.CANCELED)


def timed_out(seconds: float, output: Any = None) -> Outcome:
    message = f"The prediction ran longer than timeouts.predictSeconds, {seconds:g} s."
    return failed(message, ErrorCode.TIMEOUT, output=output)
