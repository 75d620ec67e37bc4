"""Telling that predictions have ended, on a channel of Redis', once that is committed.

A message is a JSON object: prediction → its columns as the row has them, or null: look at the row.
Runners have no right to the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
import redis

from inference_contract import queues

_MAX_BYTES = 8000
"""What is larger is read from its row by those who want it, instead of being sent to everybody."""

# Of a row `p` of predictions as it is now: null unless it has ended.
COLUMNS = f"""
CASE WHEN p.completed_at IS NULL THEN NULL
  WHEN COALESCE(pg_column_size(p.output), 0) + pg_column_size(p.logs)
    + COALESCE(pg_column_size(p.error), 0) < {_MAX_BYTES}
  THEN json_build_object('attempt', p.attempt, 'status', p.status, 'output', p.output,
    'logs', p.logs, 'error', p.error, 'error_code', p.error_code, 'metrics', p.metrics,
    'started_at', p.started_at, 'completed_at', p.completed_at)::text
  ELSE 'null' END"""


def announce(client: redis.Redis, message: str | bytes) -> int:
    """How many heard it. Raises redis.RedisError."""
    return int(client.publish(queues.ENDED, message))


def message(columns: Iterable[tuple[str, str]]) -> str:
    """
    Args:
        columns: prediction and its COLUMNS.
    """
    return "{" + ",".join(f'"{prediction}":{end}' for prediction, end in columns) + "}"


def nameless(predictions: Iterable[str]) -> bytes:
    """A message that does not say how they have ended."""
    return orjson.dumps(dict.fromkeys(predictions))


def read(message: bytes) -> dict[str, dict[str, Any] | None]:
    ends: dict[str, dict[str, Any] | None] = orjson.loads(message)
    return ends


def columns(end: dict[str, Any]) -> dict[str, Any]:
    """The columns of an end with the types that a row has."""
    for name in ("started_at", "completed_at"):
        if (moment := end[name]) is not None:
            end[name] = datetime.fromisoformat(moment)
    return end
