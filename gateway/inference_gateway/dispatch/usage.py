"""Counts the stored bytes of each account, for quotas, and the predictions of each model:
`account_usage`, `model_usage`.

Ended predictions never change, so they are added up once, in pages: all before the oldest open
prediction and before the last ten minutes, as gateways create ids by their own clocks. Later ones
are added up again each round. The rounds are spaced so that they use a fiftieth of PostgreSQL's
time. A new process starts with the first prediction.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from inference_gateway.postgres.tables import OPEN

_EVERY_SECONDS = 5.0
_SHARE = 50
_PAGE = 20_000
_SETTLES_AFTER_SECONDS = 600
_LOCK = 7_203_441_905_127
"""Advisory lock of PostgreSQL: one process counts at a time."""

# The stored size: compressed, and known without reading the value.
_SIZE = "pg_column_size(input) + COALESCE(pg_column_size(output), 0) + pg_column_size(logs)"
# OFFSET keeps the planner from searching all ended predictions.
_OLDEST_OPEN = text(
    f"SELECT id FROM (SELECT id FROM predictions WHERE {OPEN} OFFSET 0) o ORDER BY id LIMIT 1"  # noqa: S608
)
_SETTLED = text(f"""
WITH page AS (
  SELECT id, owner, model, {_SIZE} AS size FROM predictions
  WHERE id > :after AND id < :before ORDER BY id LIMIT :page)
SELECT owner, model, sum(size)::bigint AS size, count(*) AS runs,
  (array_agg(id ORDER BY id DESC))[1] AS last
FROM page GROUP BY owner, model
""")  # noqa: S608 - constants of ours
_RECENT = text(f"""
SELECT owner, model, sum({_SIZE})::bigint AS size, count(*) AS runs,
  (array_agg(id ORDER BY id DESC))[1] AS last
FROM predictions WHERE id > :after GROUP BY owner, model
""")  # noqa: S608
_WRITE = text("""
INSERT INTO account_usage (owner, stored_bytes)
SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:sizes AS bigint[]))
ON CONFLICT (owner) DO UPDATE SET stored_bytes = excluded.stored_bytes
WHERE account_usage.stored_bytes <> excluded.stored_bytes
""")
_WRITE_RUNS = text("""
INSERT INTO model_usage (model, runs, last_id)
SELECT * FROM unnest(
  CAST(:models AS text[]), CAST(:runs AS bigint[]), CAST(:last_ids AS uuid[]))
ON CONFLICT (model) DO UPDATE SET runs = excluded.runs, last_id = excluded.last_id
WHERE model_usage.runs <> excluded.runs OR model_usage.last_id <> excluded.last_id
""")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


class _Sums:
    """Sums over predictions by owner and by model."""

    def __init__(self) -> None:
        self.sizes: Counter[UUID] = Counter()
        self.runs: Counter[str] = Counter()
        self.last: dict[str, UUID] = {}
        """The newest prediction of each model."""

    def add(self, groups: Iterable[Any]) -> None:
        for owner, model, size, runs, last in groups:
            self.sizes[owner] += size
            self.runs[model] += runs
            self.last[model] = max(last, self.last.get(model, last))

    def copy(self) -> _Sums:
        made = _Sums()
        made.sizes, made.runs = Counter(self.sizes), Counter(self.runs)
        made.last = dict(self.last)
        return made


class Usage:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settled = _Sums()
        self._after = UUID(int=0)

    def step(self) -> float:
        began = time.monotonic()
        with self._engine.begin() as connection:
            if not connection.execute(_TRY_LOCK, {"key": _LOCK}).scalar_one():
                return _EVERY_SECONDS
            is_settled = self._settle(connection)
            if is_settled:
                self._write(connection)
        took = time.monotonic() - began
        return max(took * _SHARE, _EVERY_SECONDS if is_settled else 0.0)

    def _settle(self, connection: Connection) -> bool:
        """Add up one page; False if there is another."""
        before = _id_at(time.time() - _SETTLES_AFTER_SECONDS)
        oldest = connection.execute(_OLDEST_OPEN).scalar_one_or_none()
        bounds: dict[str, Any] = {"after": self._after, "page": _PAGE}
        bounds["before"] = before if oldest is None else min(before, oldest)
        rows = connection.execute(_SETTLED, bounds).all()
        self._settled.add(rows)
        self._after = max((row.last for row in rows), default=self._after)
        return bool(sum(row.runs for row in rows) < _PAGE)

    def _write(self, connection: Connection) -> None:
        sums = self._settled.copy()
        sums.add(connection.execute(_RECENT, {"after": self._after}))
        if sums.runs:
            sizes, runs, last = sums.sizes, sums.runs, map(str, sums.last.values())
            rows = {"owners": list(map(str, sizes)), "sizes": list(sizes.values())}
            connection.execute(_WRITE, rows)
            rows = {"models": list(runs), "runs": list(runs.values()), "last_ids": list(last)}
            connection.execute(_WRITE_RUNS, rows)


def _id_at(seconds: float) -> UUID:
    """The smallest UUIDv7 of that moment."""
    return UUID(int=int(seconds * 1000) << 80)
