"""Queries on predictions. Every function blocks: call it on a thread.

Every query has the owner as a condition: another user's prediction is not found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, Engine, TextClause, text

from inference_contract.predictions import TERMINAL, PredictionStatus
from inference_gateway.lifecycle import rows
from inference_gateway.lifecycle.ids import first_id, key_of
from inference_gateway.lifecycle.prediction import NewRow, Row, State
from inference_gateway.lifecycle.rows import SizedRow
from inference_gateway.postgres.tables import BRIEF, OPEN, Prediction
from inference_gateway.predictions.states import Wanted

_COLUMNS = Prediction.__table__.columns.keys()
_KEYED = "owner = :owner AND idempotency_key = :key AND idempotency_key IS NOT NULL"
_BY_KEY = text(f"SELECT {BRIEF} FROM predictions WHERE {_KEYED}")  # noqa: S608 - constants of ours
_BY_ID = "id = :id AND owner = :owner"


def _either(query: str) -> tuple[TextClause, TextClause]:
    """The query by generated id, and by the id that the owner chose."""
    return text(query.format(which=_BY_ID)), text(query.format(which=_KEYED))


_GET_SMALL = _either(
    f"SELECT * FROM predictions WHERE {rows.IS_SMALL} AND {{which}}"  # noqa: S608
)
_GET_LARGE = _either(rows.if_room("{which}"))
_PASSED_ON = ", ".join(rows.AS_READ.get(name, name) + f" AS {name}" for name in _COLUMNS)
_STATES = f"""
SELECT {BRIEF} FROM predictions JOIN
  unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:owners AS uuid[]))
    AS wanted (wanted_id, wanted_key, wanted_owner) ON owner = wanted_owner AND
"""  # noqa: S608 - constants of ours
_STATES_BY_ID = text(f"{_STATES} id = wanted_id")
_STATES_BY_KEY = text(f"{_STATES} idempotency_key = wanted_key AND idempotency_key IS NOT NULL")
_ENDED = text(
    f"SELECT {BRIEF} FROM predictions "  # noqa: S608
    "WHERE id = ANY (CAST(:ids AS uuid[])) AND completed_at IS NOT NULL"
)

_OF_BATCH = text(f"""
SELECT {BRIEF} FROM predictions WHERE id = ANY (CAST(:ids AS uuid[]))
UNION ALL
SELECT {BRIEF} FROM predictions JOIN
  unnest(CAST(:owners AS uuid[]), CAST(:keys AS text[])) AS wanted (wanted_owner, wanted_key)
  ON owner = wanted_owner AND idempotency_key = wanted_key AND idempotency_key IS NOT NULL
""")  # noqa: S608 - constants of ours


@dataclass(frozen=True)
class Filter:
    """Which predictions of an owner; None means any."""

    owner: str
    """The id of an account."""
    status: PredictionStatus | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True)
class Page:
    rows: Sequence[Row]
    """Newest first."""
    size: int
    """Bytes of their inputs, outputs and logs."""
    has_older: bool
    has_newer: bool


class _PageRow(SizedRow):
    found: int
    """How many there are, up to one beyond the page."""


def get_small(engine: Engine, prediction_id: UUID, owner: str) -> Row | None:
    """By generated or chosen id, here and below. None also if the row is large."""
    return _find(engine, _GET_SMALL, prediction_id, owner)


def get_large(engine: Engine, prediction_id: UUID, owner: str, room: int) -> SizedRow | None:
    """A row with large values as `stored.PassedOn`. The column `bytes` is their size; they are NULL
    if there is no space for them."""
    row = _find(engine, _GET_LARGE, prediction_id, owner, room=room)
    return None if row is None else rows.passed_on(cast("SizedRow", row))


def states(engine: Engine, wanted: Collection[Wanted]) -> dict[Wanted, State]:
    """The existing rows, without their large columns."""
    found: dict[Wanted, State] = {}
    with engine.connect() as connection:
        for row in _rows(connection, _STATES_BY_ID, wanted):
            found[Wanted(row["id"], str(row["owner"]))] = row
        if missing := [one for one in wanted if one not in found]:
            by_key: dict[tuple[str | None, str], Wanted]
            by_key = {(key_of(one.id), one.owner): one for one in missing}
            for row in _rows(connection, _STATES_BY_KEY, missing):
                found[by_key[row["idempotency_key"], str(row["owner"])]] = row
    return found


def _rows(connection: Connection, query: TextClause, wanted: Iterable[Wanted]) -> Iterator[State]:
    ids, owners = zip(*wanted, strict=True)
    keys = [key_of(prediction_id) for prediction_id in ids]
    parameters = {"ids": list(ids), "keys": keys, "owners": list(owners)}
    return (cast("State", row._asdict()) for row in connection.execute(query, parameters))


def _find(
    engine: Engine,
    queries: Sequence[TextClause],
    prediction_id: UUID,
    owner: str,
    **parameters: object,
) -> Row | None:
    wanted = {"id": prediction_id, "key": key_of(prediction_id), "owner": owner, **parameters}
    with engine.connect() as connection:
        for query in queries:
            if (found := connection.execute(query, wanted).one_or_none()) is not None:
                row = found._asdict()
                rows.let_go(connection, row.get("bytes", 0))
                return cast("Row", row)
    return None


def by_key(engine: Engine, owner: str, key: str) -> State | None:
    """The prediction with this Idempotency-Key of this owner."""
    with engine.connect() as connection:
        found = connection.execute(_BY_KEY, {"owner": owner, "key": key}).one_or_none()
    return None if found is None else cast("State", found._asdict())


def of_batch(engine: Engine, made: Sequence[NewRow]) -> list[State]:
    """The stored rows with the ids, or else the idempotency keys, of these rows, in their order."""
    keyed = [row for row in made if row["idempotency_key"] is not None]
    parameters = {
        "ids": [row["id"] for row in made],
        "owners": [row["owner"] for row in keyed],
        "keys": [row["idempotency_key"] for row in keyed],
    }
    with engine.connect() as connection:
        stored = [cast("State", row._asdict()) for row in connection.execute(_OF_BATCH, parameters)]
    by_id = {str(row["id"]): row for row in stored}
    by_key = {(str(row["owner"]), row["idempotency_key"]): row for row in stored}
    return [by_id.get(row["id"]) or by_key[row["owner"], row["idempotency_key"]] for row in made]


def ended(engine: Engine, ids: Sequence[str]) -> list[State]:
    """Those of the rows that have ended, without their large columns."""
    with engine.connect() as connection:
        found = connection.execute(_ENDED, {"ids": list(ids)})
        return [cast("State", row._asdict()) for row in found]


def page(
    engine: Engine,
    wanted: Filter,
    limit: int,
    older_than: UUID | None = None,
    newer_than: UUID | None = None,
    max_bytes: int = 4_000_000,
    room: int = 2**62,
) -> Page:
    """The newest predictions, or those older or newer than a given one (set at most one).

    Args:
        max_bytes: bytes of inputs, outputs and logs; the page ends with the row that reaches it.
        room: a larger page has no rows.
    """
    upwards = newer_than is not None
    clauses, parameters = _conditions(wanted)
    if older_than is not None:
        clauses.append("id < :older_than")
    if newer_than is not None:
        clauses.append("id > :newer_than")
    order = "ASC" if upwards else "DESC"
    # The ids first, from the index of owner and id without reading rows. In a single query the
    # planner walks the primary key instead, past all newer rows of other owners: a thousand times
    # slower for an owner whose predictions are older than a million of others.
    # Then row by row while the page has space: further rows are not even read.
    query = f"""
        WITH RECURSIVE ids AS MATERIALIZED (
          SELECT ARRAY (
            SELECT id FROM predictions WHERE {" AND ".join(clauses)} ORDER BY id {order}
            LIMIT :limit + 1
          ) AS list
        ), walk (n, size) AS (
          SELECT 0, 0::bigint
          UNION ALL
          SELECT n + 1, size + (
            SELECT coalesce(octet_length(input::text), 0) + coalesce(octet_length(output::text), 0)
              + coalesce(octet_length(logs), 0)
            FROM predictions WHERE id = (SELECT list[n + 1] FROM ids)
          )
          FROM walk, ids WHERE size < :max_bytes AND n < least(:limit, cardinality(list))
        )
        SELECT {_PASSED_ON}, (SELECT cardinality(list) FROM ids) AS found,
          (SELECT max(size) FROM walk) AS bytes
        FROM (SELECT 1) AS once LEFT JOIN predictions
          ON id = ANY ((SELECT list[1:(SELECT max(n) FROM walk)] FROM ids)::uuid[])
          AND (SELECT max(size) FROM walk) <= :room
        ORDER BY id {order}
    """  # noqa: S608 - clauses of ours
    parameters |= {"older_than": older_than, "newer_than": newer_than}
    parameters |= {"limit": limit, "max_bytes": max_bytes, "room": room}
    with engine.connect() as connection:
        found = [
            cast("_PageRow", row._asdict()) for row in connection.execute(text(query), parameters)
        ]
        size = found[0]["bytes"]
        rows.let_go(connection, size)
    shown = [rows.passed_on(row) for row in found if row["id"] is not None]
    more = bool(shown) and shown[0]["found"] > len(shown)
    if upwards:
        return Page(shown[::-1], size, has_older=True, has_newer=more)
    return Page(shown, size, has_older=more, has_newer=older_than is not None)


def _conditions(wanted: Filter) -> tuple[list[str], dict[str, Any]]:
    clauses = ["owner = :owner"]
    parameters: dict[str, Any] = {"owner": wanted.owner}
    if wanted.status is not None:
        clauses.append("status = :status")
        parameters["status"] = wanted.status.value
        if wanted.status not in TERMINAL:
            clauses.append(OPEN)  # So that the index of open predictions is used.
    if wanted.model is not None:
        clauses.append("model = :model")
        parameters["model"] = wanted.model
    if wanted.created_after is not None:
        clauses.append("id >= :created_after")
        parameters["created_after"] = first_id(wanted.created_after)
    if wanted.created_before is not None:
        clauses.append("id < :created_before")
        parameters["created_before"] = first_id(wanted.created_before)
    return clauses, parameters
