"""Announces ends of predictions on a Redis channel, after the commit.

A message is a JSON object: prediction → its columns from the row, or null: the row must be read.
Runners have no right to publish on the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

import orjson
import redis

from inference_contract import queues
from inference_gateway.lifecycle.prediction import End

_MAX_BYTES = 8000
"""Larger ends are not sent to all gateways; those that wait for them read the row."""

# For a row `p` of predictions: NULL unless it has ended.
COLUMNS = f"""
CASE WHEN p.completed_at IS NULL THEN NULL
  WHEN COALESCE(pg_column_size(p.output), 0) + pg_column_size(p.logs)
    + COALESCE(pg_column_size(p.error), 0) < {_MAX_BYTES}
  THEN json_build_object({", ".join(f"'{name}', p.{name}" for name in End.__annotations__)})::text
  ELSE 'null' END"""


def announce(client: redis.Redis, message: str | bytes) -> int:
    """Publish. Returns the number of receivers. Raises redis.RedisError."""
    return int(client.publish(queues.ENDED, message))


def message(columns: Iterable[tuple[str, str]]) -> str:
    """
    Args:
        columns: pairs of a prediction and its COLUMNS.
    """
    return "{" + ",".join(f'"{prediction}":{end}' for prediction, end in columns) + "}"


def nameless(predictions: Iterable[str]) -> bytes:
    """A message without columns: the rows must be read."""
    return orjson.dumps(dict.fromkeys(predictions))


def read(message: bytes) -> dict[str, dict[str, Any] | None]:
    ends: dict[str, dict[str, Any] | None] = orjson.loads(message)
    return ends


def columns(end: dict[str, Any]) -> End:
    """The columns in a message, converted to the types of a row."""
    for name in ("started_at", "completed_at"):
        if (moment := end[name]) is not None:
            end[name] = datetime.fromisoformat(moment)
    return cast("End", end)
