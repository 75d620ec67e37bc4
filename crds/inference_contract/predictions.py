"""A prediction's states, the job that a runner gets, and the events that it answers with."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NotRequired, TypedDict


class PredictionStatus(StrEnum):
    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset(
    {PredictionStatus.SUCCEEDED, PredictionStatus.FAILED, PredictionStatus.CANCELED}
)


class ErrorCode(StrEnum):
    """Why a prediction failed or was canceled, for programs."""

    INPUT = "invalid_input"
    """The engine refused the input."""
    MODEL = "model_error"
    """The model's code raised."""
    OUTPUT = "invalid_output"
    """The model's output, or what its runner said of it, is no value: see `values`."""
    TOO_LARGE = "output_too_large"
    TIMEOUT = "prediction_timeout"
    """It ran longer than timeouts.predictSeconds."""
    CRASHED = "runner_crashed"
    """Its runner died, as often as attempts are allowed."""
    UNDELIVERED = "undelivered"
    """It was handed out again and again, and no runner ever had it."""
    DEADLINE = "deadline_exceeded"
    MODEL_DELETED = "model_deleted"
    CANCELED = "canceled"


class EventType(StrEnum):
    STARTED = "started"
    OUTPUT = "output"
    LOGS = "logs"
    HEARTBEAT = "heartbeat"
    RETURNED = "returned"
    """The runner gives it back, not done: it ends itself, and another one shall run it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self.value in TERMINAL


class Job(TypedDict):
    """What a runner is given: the only argument of the RQ job."""

    id: str
    attempt: int
    """1 for the first; every handing-out has the next number."""
    token: str
    """The fence: only who presents the current attempt's token may write."""
    input: dict[str, Any]
    notify: list[str]
    """Which of `output`, `logs` the webhook wants while the prediction runs."""
    crashes: int
    """Runners that died while they ran it. Above 0 it runs alone: it may be what they died of."""


class Event(TypedDict):
    """What a runner says. Entries of a model's event stream hold a JSON array of these in `d`."""

    type: str
    id: str
    attempt: int
    token: str
    output: NotRequired[Any]
    """`output`: all output so far; terminal events: the whole output."""
    logs: NotRequired[str]
    """All log text so far."""
    error: NotRequired[str]
    error_code: NotRequired[str]
    predict_time: NotRequired[float]
    """Seconds since the prediction started, by the runner's monotonic clock. No wall-clock time
    leaves a runner: entry ids of the stream carry Redis' time, which is the same for all."""
    metrics: NotRequired[dict[str, Any]]
    suspect: NotRequired[bool]
    """`returned`: it may be what the runner ends of, and counts as a crash."""
    streamed: NotRequired[bool]
    """Whether the prediction's own stream holds this run, its end included."""


class StreamEvent(TypedDict):
    """An entry of a prediction's own stream, in `d`; its entry id is `<attempt>-<sequence>`.

    Redis refuses an id that is not above the last one, so a stale attempt cannot write here.
    """

    type: str
    output: NotRequired[Any]
    """What is new since the last entry: text of a text model, one item of a list."""
    item: NotRequired[bool]
    """Whether it is an item; else it is text that is joined."""
    logs: NotRequired[str]
    error: NotRequired[str]
