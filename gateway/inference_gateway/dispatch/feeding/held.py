"""Reads held predictions in parts, so that a round costs the same however many there are.

Rounds rotate over accounts, and over the models of each account: an account with very many models
delays only itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from inference_gateway.postgres.tables import HELD, OPEN

_ACCOUNTS = 64
_LINES = 500
"""Lines in one round; a line is the held predictions of one account for one model."""
_PREDICTIONS = 10_000
"""Predictions in one round: some megabytes, as only their sizes are read."""
_MOST_OF_ONE = 200
_MAX_CURSORS = 10_000
_BEFORE_ALL = UUID(int=0)

# A loose index scan: each distinct first column by one lookup.
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
"""Bytes of inputs in Redis; the model '' stands for all models that were not asked for."""


@dataclass(frozen=True, slots=True)
class Held:
    owner: UUID
    model: str
    id: UUID
    size: int


class Rotation:
    """The position of the rotation over accounts and models."""

    def __init__(self) -> None:
        self._account = _BEFORE_ALL
        """The last account that was read."""
        self._models: dict[UUID, str] = {}
        """The last model, for accounts with more models than one round reads."""

    def remembered(self) -> int:
        """Accounts whose last model is in memory."""
        return len(self._models)

    def next(self, connection: Connection) -> list[Held]:
        """Held predictions by owner and model, the oldest first."""
        lines = self._lines(connection, self._accounts(connection))
        if not lines:
            return []
        most = min(_PREDICTIONS // len(lines), _MOST_OF_ONE)
        found = connection.execute(_HEADS, {**_columns(lines), "most": most})
        return [Held(*row) for row in found]

    def _accounts(self, connection: Connection) -> list[UUID]:
        """The accounts after the last one; starts over after the end."""
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
    """The bytes of inputs that the accounts of these predictions have in Redis."""
    lines = list(dict.fromkeys((one.owner, one.model) for one in held))
    found = connection.execute(_QUEUED, _columns(lines))
    return {(owner, model): size for owner, model, size in found}


def _columns(lines: Sequence[Line]) -> dict[str, list[str]]:
    return {
        "owners": [str(owner) for owner, _ in lines],
        "models": [model for _, model in lines],
    }
