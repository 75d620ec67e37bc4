"""A prediction's states, the job that a runner gets, and the events that it sends."""

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
    """The model's output, or an event of its runner, is not a valid value: see `values`."""
    TOO_LARGE = "output_too_large"
    TIMEOUT = "prediction_timeout"
    """It ran longer than timeouts.predictSeconds."""
    CRASHED = "runner_crashed"
    """Its runner died, in MAX_ATTEMPTS attempts."""
    UNDELIVERED = "undelivered"
    """It was handed out many times, and no runner ever ran it."""
    DEADLINE = "deadline_exceeded"
    MODEL_DELETED = "model_deleted"
    CANCELED = "canceled"


class EventType(StrEnum):
    STARTED = "started"
    OUTPUT = "output"
    LOGS = "logs"
    HEARTBEAT = "heartbeat"
    RETURNED = "returned"
    """The runner returns it unfinished, because the runner ends; another one runs it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self.value in TERMINAL


class Job(TypedDict):
    """The work for a runner: the only argument of the RQ job."""

    id: str
    attempt: int
    """1 for the first; raised whenever it is handed out again."""
    token: str
    """The fence: only events with the current attempt's token are recorded."""
    input: dict[str, Any]
    notify: list[str]
    """Which of `output` and `logs` the webhook gets while the prediction runs."""
    crashes: int
    """Runners that died while they ran it. Above 0 it runs alone: it may be the cause."""


class Event(TypedDict):
    """An event of a runner. Entries of a model's event stream have a JSON array of these in `d`."""

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
    """`returned`: it may be the cause of the runner's end, and counts as a crash."""
    streamed: NotRequired[bool]
    """Whether the prediction's own stream has this run, including its end."""


class StreamEvent(TypedDict):
    """An entry of a prediction's own stream, in `d`; its entry id is `<attempt>-<sequence>`.

    Redis refuses an id that is not above the last one, so a stale attempt cannot write here.
    """

    type: str
    output: NotRequired[Any]
    """New output since the last entry: text, or one item of a list."""
    item: NotRequired[bool]
    """Whether it is an item; otherwise text that is joined."""
    logs: NotRequired[str]
    error: NotRequired[str]
