"""The streamed output and logs of an attempt that is ended without its runner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import redis

from inference_contract import queues, values
from inference_contract.predictions import EventType, StreamEvent

_PAGE = 500
MAX_BYTES = 10_000_000
"""A larger output exceeds the runners' limit and is dropped."""


def so_far(client: redis.Redis, model: str, prediction: str, attempt: int) -> tuple[Any, str]:
    """Output and logs so far; no output if there is none, or if a part of it is gone.

    Raises:
        redis.RedisError
    """
    key = queues.stream_key(queues.model_key(model), prediction)
    pieces: list[Any] = []
    logs = ""
    is_list = False
    try:
        for event in _events(client, key, attempt):
            if event["type"] == EventType.OUTPUT:
                is_list = is_list or bool(event.get("item"))
                pieces.append(event["output"])
            elif event["type"] == EventType.LOGS:
                logs += event["logs"]
        values.check(pieces)
    except (ValueError, TypeError, KeyError):
        return None, ""
    logs = values.text(logs)
    if not pieces:
        return None, logs
    is_text = not is_list and all(isinstance(piece, str) for piece in pieces)
    return "".join(pieces) if is_text else pieces, logs


def _events(client: redis.Redis, key: str, attempt: int) -> Iterator[StreamEvent]:
    """Raises ValueError if events are missing, too many, or invalid."""
    number, size = 0, 0
    while True:
        page: Any = client.xrange(key, f"({attempt}-{number}", f"{attempt}", count=_PAGE)
        for entry_id, fields in page:
            number += 1
            data = fields.get(b"d", b"")
            size += len(data)
            if entry_id != b"%d-%d" % (attempt, number) or size > MAX_BYTES:
                raise ValueError
            event: StreamEvent = orjson.loads(data)
            if not isinstance(event, dict):
                raise ValueError
            yield event
        if len(page) < _PAGE:
            return
