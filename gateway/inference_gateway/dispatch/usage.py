"""How many bytes the predictions of each account take, for their quotas: `account_usage`.

What has ended never changes, so it is added up once, in pages: everything before the oldest
prediction that is still open, and before the last ten minutes, as gateways make ids by their own
clocks. What comes after is added up anew each round, and the rounds are spaced so that they keep
PostgreSQL busy for a fiftieth of its time. A process that starts begins with the first prediction.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from inference_gateway.tables import OPEN

_EVERY_SECONDS = 5.0
_SHARE = 50
_PAGE = 20_000
_SETTLES_AFTER_SECONDS = 600
_LOCK = 7_203_441_905_127
"""Of PostgreSQL: one process counts at a time."""

# As they are stored: compressed, and without being read.
_SIZE = "pg_column_size(input) + COALESCE(pg_column_size(output), 0) + pg_column_size(logs)"
# OFFSET keeps the planner from looking for it among all that have ended.
_OLDEST_OPEN = text(
    f"SELECT id FROM (SELECT id FROM predictions WHERE {OPEN} OFFSET 0) o ORDER BY id LIMIT 1"  # noqa: S608
)
_SETTLED = text(f"""
WITH page AS (
  SELECT id, owner, {_SIZE} AS size FROM predictions
  WHERE id > :after AND id < :before ORDER BY id LIMIT :page)
SELECT owner, sum(size)::bigint, count(*), (SELECT id FROM page ORDER BY id DESC LIMIT 1)
FROM page GROUP BY owner
""")  # noqa: S608 - constants of ours
_RECENT = text(f"""
SELECT owner, sum({_SIZE})::bigint FROM predictions WHERE id > :after GROUP BY owner
""")  # noqa: S608
_WRITE = text("""
INSERT INTO account_usage (owner, stored_bytes)
SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:sizes AS bigint[]))
ON CONFLICT (owner) DO UPDATE SET stored_bytes = excluded.stored_bytes
WHERE account_usage.stored_bytes <> excluded.stored_bytes
""")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


class Usage:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settled: Counter[UUID] = Counter()
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
        for owner, size, _, last in rows:
            self._settled[owner] += size
            self._after = last
        return bool(sum(count for _, _, count, _ in rows) < _PAGE)

    def _write(self, connection: Connection) -> None:
        sizes = Counter(self._settled)
        for owner, size in connection.execute(_RECENT, {"after": self._after}):
            sizes[owner] += size
        if sizes:
            rows = {"owners": list(map(str, sizes)), "sizes": list(sizes.values())}
            connection.execute(_WRITE, rows)


def _id_at(seconds: float) -> UUID:
    """The smallest UUIDv7 of that moment."""
    return UUID(int=int(seconds * 1000) << 80)
