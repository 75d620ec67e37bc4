"""Parses and checks entries of event streams.

On a cluster a model counts as hostile, and its runner may write anything. Items without the fence's
fields are refused and counted. An item with them that is not a valid event, or cannot be stored,
ends its prediction as failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from inference_contract import values
from inference_contract.predictions import ErrorCode, Event, EventType

_TYPES = frozenset(EventType)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CODE = re.compile(r"[a-z0-9_]{1,64}")
_MAX_ATTEMPT = 2**31 - 1
_MAX_TOKEN = 200
_MAX_SECONDS = 1e9
_MAX_BYTES = 12_000_000
"""Size of an entry: the largest output fits. Many small objects take twenty times as much memory as
text."""
_MAX_ITEMS = 10_000
"""A runner puts events of up to a million bytes in an entry, and none has less than 100."""


class Parsed(NamedTuple):
    """The events of an entry; all of them can be stored."""

    events: list[Event]
    refused: int = 0
    """Number of items without the fence's fields or with an unknown type."""


def parse(data: bytes) -> Parsed:
    """
    Raises:
        ValueError: if it is not a JSON array, or larger than any that our runner writes.
    """
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, more than {_MAX_BYTES}")
    found = orjson.loads(data)
    if type(found) is not list:
        raise ValueError("not a list of events")
    if len(found) > _MAX_ITEMS:
        raise ValueError(f"{len(found)} items, more than {_MAX_ITEMS}")
    events = [event for event in found if _is_ours(event)]
    is_plain = values.is_plain(data)
    return Parsed([_sound(event, is_plain) for event in events], len(found) - len(events))


def _sound(event: Event, is_plain: bool) -> Event:
    """The event, or the failure to record instead."""
    wrong = _wrong(event, is_plain)
    return event if wrong is None else _refusal(event, wrong)


def _is_ours(event: Any) -> bool:
    """Whether the item has the fence's fields: prediction, attempt, token."""
    return (
        type(event) is dict
        and type(event.get("type")) is str
        and event["type"] in _TYPES
        and type(event.get("id")) is str
        and _UUID.fullmatch(event["id"]) is not None
        and type(event.get("attempt")) is int
        and 0 < event["attempt"] <= _MAX_ATTEMPT
        and type(event.get("token")) is str
        and len(event["token"]) <= _MAX_TOKEN
        and "\0" not in event["token"]
    )


def _wrong(event: Mapping[str, Any], is_plain: bool) -> str | None:
    """Why the event cannot be recorded; None if it can."""
    for name, check in _FIELDS.items():
        field = event.get(name)
        if field is not None and not check(field):
            return f"{name} is none"
    if is_plain:
        return None
    for name, field in event.items():
        try:
            values.check(field)
        except values.Unacceptable as error:
            return f"{name[:100]!r} {error}"
    return None


def _is_text(field: Any) -> bool:
    return type(field) is str


def _is_code(field: Any) -> bool:
    return type(field) is str and _CODE.fullmatch(field) is not None


def _is_seconds(field: Any) -> bool:
    return type(field) in (int, float) and 0 <= field <= _MAX_SECONDS


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "logs": _is_text,
    "error": _is_text,
    "error_code": _is_code,
    "predict_time": _is_seconds,
    "metrics": lambda field: type(field) is dict,
}


def _refusal(event: Event, wrong: str) -> Event:
    return Event(
        type=EventType.FAILED.value,
        id=event["id"],
        attempt=event["attempt"],
        token=event["token"],
        error=values.text(f"What its runner said ({event['type']}) cannot be recorded: {wrong}."),
        error_code=ErrorCode.OUTPUT.value,
    )
