"""From what runners say to what shall change in the database: one change per attempt and batch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from inference_contract.predictions import Event, EventType, PredictionStatus, WebhookEvent

_TYPES = frozenset(EventType)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_ATTEMPT = 2**31 - 1
_MAX_SECONDS = 1e9
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Entry(NamedTuple):
    """An entry of an event stream."""

    ms: int
    """When it was written, by Redis' clock: milliseconds since 1970."""
    events: list[Event]


@dataclass
class RowChange:
    """What one attempt said in a batch; None leaves a column as it is."""

    id: str
    attempt: int
    token: str
    outcome: str = PredictionStatus.PROCESSING.value
    started_ms: float | None = None
    ended_ms: int | None = None
    """Set if the outcome is terminal."""
    output: Any = None
    logs: str | None = None
    error: str | None = None
    error_code: str | None = None
    metrics: dict[str, Any] | None = None
    events: list[str] = field(default_factory=list)
    """What a webhook may be told, in WebhookEvent's names."""


def parse(data: bytes) -> list[Event]:
    """The events of an entry, in a form that PostgreSQL takes.

    PostgreSQL's text holds no NUL and no half of a surrogate pair: both become U+FFFD.

    Raises:
        ValueError: if it is not a JSON array of events.
    """
    try:
        events = orjson.loads(data)
        if b"\\u0000" in data:
            events = _clean(events)
    except orjson.JSONDecodeError:
        try:
            events = _clean(json.loads(data.decode(errors="replace"), strict=False))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    if not isinstance(events, list) or not all(map(_is_event, events)):
        raise ValueError("not a list of events")
    return events


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", _REPLACEMENT)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _is_event(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and event.get("type") in _TYPES
        and isinstance(event.get("id"), str)
        and _UUID.fullmatch(event["id"]) is not None
        and type(event.get("attempt")) is int
        and 0 < event["attempt"] <= _MAX_ATTEMPT
        and isinstance(event.get("token"), str)
    )


def fold(entries: Iterable[Entry]) -> list[RowChange]:
    """One change per attempt and token, sorted by id so that all recorders lock in one order.

    The first terminal event of an attempt counts; what follows it is dropped.
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
    kind = EventType(event["type"])
    if kind.is_terminal:
        _end(change, event, ms)
    elif kind is EventType.STARTED:
        change.started_ms = ms
        _announce(change, WebhookEvent.START)
    elif kind is EventType.OUTPUT:
        change.output = event.get("output")
        _announce(change, WebhookEvent.OUTPUT)
    elif kind is EventType.LOGS:
        change.logs = _text(event.get("logs"))
        _announce(change, WebhookEvent.LOGS)


def _end(change: RowChange, event: Event, ms: int) -> None:
    change.outcome = event["type"]
    change.ended_ms = ms
    change.output = event.get("output", change.output)
    change.logs = _text(event.get("logs")) or change.logs
    change.error = _text(event.get("error"))
    change.error_code = _text(event.get("error_code"))
    metrics = event.get("metrics")
    change.metrics = dict(metrics) if isinstance(metrics, dict) else None
    seconds = event.get("predict_time")
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        seconds = min(max(seconds, 0.0), _MAX_SECONDS)
        change.started_ms = ms - seconds * 1000
        change.metrics = {**(change.metrics or {}), "predict_time": seconds}
        # A short prediction says nothing of its start before its end.
        _announce(change, WebhookEvent.START)
    _announce(change, WebhookEvent.COMPLETED)


def _announce(change: RowChange, event: WebhookEvent) -> None:
    if event.value not in change.events:
        change.events.append(event.value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
