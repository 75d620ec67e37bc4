"""What is held back, a part of it at a time: however much that is, a look at it costs the same.

Accounts take turns, and the models of each do, from one look to the next: who has predictions of
very many models keeps nobody waiting but himself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from inference_gateway.postgres.tables import HELD, OPEN

_ACCOUNTS = 64
_LINES = 500
"""A line is what is held of an account for one model."""
_PREDICTIONS = 10_000
"""Of one look: some megabytes, as only their sizes are read."""
_MOST_OF_ONE = 200
_MAX_CURSORS = 10_000
_BEFORE_ALL = UUID(int=0)

# The distinct values that an index begins with, each by one step into it.
_NEXT_ACCOUNTS = text(f"""
WITH RECURSIVE next AS (
  (SELECT owner, 1 AS n FROM predictions WHERE {HELD} AND owner > :after ORDER BY owner LIMIT 1)
  UNION ALL
  SELECT (SELECT p.owner FROM predictions p WHERE {HELD} AND p.owner > next.owner
          ORDER BY p.owner LIMIT 1), n + 1
  FROM next WHERE next.owner IS NOT NULL AND n < :most
)
SELECT owner FROM next WHERE owner IS NOT NULL
""")  # noqa: S608 - constants of ours
_NEXT_MODELS = text(f"""
SELECT a.owner, m.model
FROM unnest(CAST(:owners AS uuid[]), CAST(:afters AS text[])) AS a (owner, after), LATERAL (
  WITH RECURSIVE next AS (
    (SELECT p.model, 1 AS n FROM predictions p
     WHERE {HELD} AND p.owner = a.owner AND p.model > a.after ORDER BY p.model LIMIT 1)
    UNION ALL
    SELECT (SELECT p.model FROM predictions p
            WHERE {HELD} AND p.owner = a.owner AND p.model > next.model
            ORDER BY p.model LIMIT 1), n + 1
    FROM next WHERE next.model IS NOT NULL AND n < :most
  )
  SELECT model FROM next WHERE model IS NOT NULL
) m
""")  # noqa: S608
_HEADS = text(f"""
SELECT l.owner, l.model, h.id, h.input_bytes
FROM unnest(CAST(:owners AS uuid[]), CAST(:models AS text[])) AS l (owner, model),
  LATERAL (SELECT p.id, p.input_bytes FROM predictions p
    WHERE p.owner = l.owner AND p.model = l.model AND {HELD} ORDER BY p.id LIMIT :most) h
ORDER BY l.owner, l.model, h.id
""")  # noqa: S608
_QUEUED = text(f"""
SELECT q.owner, COALESCE(l.model, ''), sum(q.size)::bigint
FROM (SELECT owner, model, sum(input_bytes) AS size FROM predictions
  WHERE {OPEN} AND NOT held AND owner = ANY (CAST(:owners AS uuid[])) GROUP BY owner, model) q
LEFT JOIN unnest(CAST(:owners AS uuid[]), CAST(:models AS text[])) AS l (owner, model)
  ON l.owner = q.owner AND l.model = q.model
GROUP BY q.owner, COALESCE(l.model, '')
""")  # noqa: S608

Line = tuple[UUID, str]
"""Owner and model."""
Queued = Mapping[Line, int]
"""Bytes of inputs in Redis; '' stands for all models that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Held:
    owner: UUID
    model: str
    id: UUID
    size: int


class Rotation:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._account = _BEFORE_ALL
        """The last that was looked at."""
        self._models: dict[UUID, str] = {}
        """The same of accounts that have more models than a look takes in."""

    def remembered(self) -> int:
        """Accounts whose last model is in memory."""
        return len(self._models)

    def next(self, connection: Connection) -> list[Held]:
        """By owner and model, the oldest first; nothing if nothing is held."""
        lines = self._lines(connection, self._accounts(connection))
        if not lines:
            return []
        most = min(_PREDICTIONS // len(lines), _MOST_OF_ONE)
        found = connection.execute(_HEADS, {**_columns(lines), "most": most})
        return [Held(*row) for row in found]

    def _accounts(self, connection: Connection) -> list[UUID]:
        """Those after the last; from the beginning after the end."""
        parameters = {"after": self._account, "most": _ACCOUNTS}
        found = list(connection.execute(_NEXT_ACCOUNTS, parameters).scalars())
        if not found and self._account != _BEFORE_ALL:
            self._account = _BEFORE_ALL
            return self._accounts(connection)
        self._account = found[-1] if len(found) == _ACCOUNTS else _BEFORE_ALL
        return found

    def _lines(self, connection: Connection, accounts: Sequence[UUID]) -> list[Line]:
        if not accounts:
            return []
        most = _LINES // len(accounts)
        afters = [self._models.pop(account, "") for account in accounts]
        owners = [str(account) for account in accounts]
        parameters = {"owners": owners, "afters": afters, "most": most}
        models: dict[UUID, list[str]] = {}
        for owner, model in connection.execute(_NEXT_MODELS, parameters):
            models.setdefault(owner, []).append(model)
        if len(self._models) > _MAX_CURSORS:
            self._models.clear()
        self._models |= {o: max(theirs) for o, theirs in models.items() if len(theirs) == most}
        return [(owner, model) for owner, theirs in models.items() for model in theirs]


def queued(connection: Connection, held: Iterable[Held]) -> Queued:
    """What the accounts of these have in Redis."""
    lines = list(dict.fromkeys((one.owner, one.model) for one in held))
    found = connection.execute(_QUEUED, _columns(lines))
    return {(owner, model): size for owner, model, size in found}


def _columns(lines: Sequence[Line]) -> dict[str, list[str]]:
    return {
        "owners": [str(owner) for owner, _ in lines],
        "models": [model for _, model in lines],
    }
