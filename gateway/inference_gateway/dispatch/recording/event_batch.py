"""Folds runners' events into changes of rows: one change per attempt and batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inference_contract.predictions import TERMINAL, Event, EventType, PredictionStatus
from inference_contract.webhooks import WebhookEvent

# A lookup in the enumeration each time would double the cost of an event.
_PROCESSING = PredictionStatus.PROCESSING.value
_START = WebhookEvent.START.value
_OUTPUT = WebhookEvent.OUTPUT.value
_LOGS = WebhookEvent.LOGS.value
_COMPLETED = WebhookEvent.COMPLETED.value


class Entry(NamedTuple):
    """An entry of an event stream."""

    ms: int
    """When it was written, by Redis' clock: milliseconds since 1970."""
    events: list[Event]


@dataclass
class RowChange:
    """The events of one attempt in a batch; None leaves a column unchanged."""

    id: str
    attempt: int
    token: str
    outcome: str = _PROCESSING
    started_ms: float | None = None
    ended_ms: int | None = None
    """Set if the outcome is terminal."""
    output: Any = None
    logs: str | None = None
    error: str | None = None
    error_code: str | None = None
    metrics: dict[str, Any] | None = None
    crashes: int = 0
    """With outcome `starting`: the runner returned it, after so many crashes that it may have
    caused."""
    events: list[str] = field(default_factory=list)
    """Webhook events of the change, named as in WebhookEvent."""


def fold(entries: Iterable[Entry]) -> list[RowChange]:
    """One change per attempt and token, sorted by id so that all recorders lock in one order.

    The first terminal event of an attempt counts; later events are dropped.
    """
    changes: dict[tuple[str, int, str], RowChange] = {}
    for ms, events in entries:
        for event in events:
            key = (event["id"], event["attempt"], event["token"])
            change = changes.get(key)
            if change is None:
                change = changes[key] = RowChange(*key)
            if change.ended_ms is None:
                _add(change, event, ms)
    return sorted(changes.values(), key=lambda change: change.id)


def _add(change: RowChange, event: Event, ms: int) -> None:
    kind = event["type"]
    if kind in TERMINAL:
        _end(change, event, ms)
    elif kind == EventType.STARTED:
        change.started_ms = ms
        _announce(change, _START)
    elif kind == EventType.OUTPUT:
        change.output = event.get("output")
        _announce(change, _OUTPUT)
    elif kind == EventType.LOGS:
        change.logs = event.get("logs")
        _announce(change, _LOGS)
    elif kind == EventType.RETURNED:
        change.outcome = PredictionStatus.STARTING.value
        change.crashes = int(event.get("suspect") is True)


def _end(change: RowChange, event: Event, ms: int) -> None:
    change.outcome = event["type"]
    change.ended_ms = ms
    change.output = event.get("output", change.output)
    change.logs = event.get("logs") or change.logs
    change.error = event.get("error")
    change.error_code = event.get("error_code")
    change.metrics = event.get("metrics")
    seconds = event.get("predict_time")
    if seconds is not None:
        change.started_ms = ms - seconds * 1000
        change.metrics = {**(change.metrics or {}), "predict_time": seconds}
        # The start of a short prediction is not sent before its end.
        _announce(change, _START)
    _announce(change, _COMPLETED)


def _announce(change: RowChange, event: str) -> None:
    if event not in change.events:
        change.events.append(event)
