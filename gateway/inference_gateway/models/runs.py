"""The number of predictions of each model: `run_count`.

Dispatch counts them every few seconds; newer ones are counted here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.postgres import db

log = logging.getLogger(__name__)

_HOLDS_SECONDS = 0.5
"""How long a count is cached, as the route is public."""
# Limited: the rest is counted a few seconds later.
_COUNT = text("""
WITH recent AS (
  SELECT model FROM predictions WHERE id > COALESCE(
    (SELECT last_id FROM model_usage ORDER BY last_id DESC LIMIT 1),
    '00000000-0000-0000-0000-000000000000')
  ORDER BY id LIMIT 20000
)
SELECT model, sum(runs)::bigint AS runs FROM (
  SELECT model, runs FROM model_usage
  UNION ALL SELECT model, count(*) FROM recent GROUP BY model
) AS counted GROUP BY model
""")


class RunCounts:
    """For one event loop. While PostgreSQL does not answer it returns the last counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._counted_at = float("-inf")
        self._counts: Mapping[str, int] = {}

    async def get(self) -> Mapping[str, int]:
        """Counts by model, without models that never ran."""
        async with self._lock:
            if time.monotonic() - self._counted_at > _HOLDS_SECONDS:
                try:
                    self._counts = await asyncio.to_thread(_count, self._engine)
                except SQLAlchemyError as error:
                    log.warning("runs are not counted: %s", db.describe(error))
                self._counted_at = time.monotonic()
            return self._counts


def _count(engine: Engine) -> Mapping[str, int]:
    with engine.connect() as connection:
        return {row.model: row.runs for row in connection.execute(_COUNT)}
