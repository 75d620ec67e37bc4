"""One raw connection to PostgreSQL that stores batches of new predictions, at most once each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import orjson
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from psycopg2.extras import RealDictCursor

from inference_gateway import db
from inference_gateway.predictions import statements
from inference_gateway.predictions.schemas import Row
from inference_gateway.prepared import Prepared

log = logging.getLogger(__name__)

_IN_DOUBT_SECONDS = 10.0
_RETRY_SECONDS = 0.2


class InDoubt(Exception):
    """PostgreSQL did not say whether it stored a batch."""


class Store:
    """For one thread. Connects when it is first used, and anew whenever the connection broke.

    When a connection breaks in the middle, nobody knows whether the batch was committed: it is then
    sent again, which changes nothing if it was. Whatever was committed stays: somebody else may
    have been given it under its idempotency key meanwhile.

    Args:
        connect: opens a connection, or raises psycopg2.OperationalError.
        in_doubt_seconds: how long to try that.
    """

    def __init__(
        self, connect: Callable[[], Connection], in_doubt_seconds: float = _IN_DOUBT_SECONDS
    ) -> None:
        self._prepared = Prepared(connect, statements.PREPARE)
        self._in_doubt_seconds = in_doubt_seconds

    def insert(self, rows: Sequence[dict[str, Any]]) -> list[Row]:
        """Store rows in one statement; fills in `created_at` and `deadline`.

        Returns:
            The same rows, in order; in place of one whose idempotency key was taken, the older row.

        Raises:
            psycopg2.Error: nothing was stored.
            InDoubt: all of it or nothing was.
        """
        content = orjson.dumps([_record(row) for row in rows]).decode()
        until: float | None = None
        while True:
            try:
                return self._insert(content, rows)
            except (psycopg2.DataError, psycopg2.IntegrityError):
                raise  # And so it was the first time.
            except InDoubt as error:
                if until is None:
                    until = time.monotonic() + self._in_doubt_seconds
                    log.warning("the connection broke while storing: %s", error)
            except psycopg2.Error:
                if until is None:
                    raise
                time.sleep(_RETRY_SECONDS)
            if time.monotonic() > until:
                raise InDoubt("PostgreSQL does not answer")

    def hurry(self) -> None:
        """Stay in doubt no longer: the process is about to stop. Safe from any thread."""
        self._in_doubt_seconds = 0.0

    def close(self) -> None:
        self._prepared.close()

    def _insert(self, content: str, rows: Sequence[dict[str, Any]]) -> list[Row]:
        connection = self._prepared.connection()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statements.INSERT, (content,))
                created_at, inserted = cursor.fetchone() or (None, 0)
        except psycopg2.Error as error:
            if connection.closed:
                self.close()
                raise InDoubt(db.describe(error)) from error
            if error.pgcode == db.READ_ONLY:
                self.close()  # A new connection may lead to the new primary.
            raise
        if inserted != len(rows):
            try:
                return _find(connection, rows)
            except psycopg2.Error as error:
                self.close()
                raise InDoubt(db.describe(error)) from error
        for row in rows:
            row["created_at"] = created_at
            row["deadline"] = created_at + timedelta(seconds=row["lives_seconds"])
        return list(rows)


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "owner": row["owner"],
        "model": row["model"],
        "version": row["version"],
        "token": row["token"],
        "input": row["input"],
        "input_bytes": row["input_bytes"],
        "held": row["held"],
        "webhook": row["webhook"],
        "webhook_events": row["webhook_events"],
        "base_url": row["base_url"],
        "idempotency_key": row["idempotency_key"],
        "request_hash": row["request_hash"],
        "lives_seconds": row["lives_seconds"],
    }


def _find(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Row]:
    """What is stored under the ids, or else the idempotency keys, of these rows."""
    keyed = [row for row in rows if row["idempotency_key"] is not None]
    parameters = {
        "ids": [row["id"] for row in rows],
        "owners": [row["owner"] for row in keyed],
        "keys": [row["idempotency_key"] for row in keyed],
    }
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(statements.FIND, parameters)
        stored = [dict(row) for row in cursor]
    by_id = {row["id"]: row for row in stored}
    by_key = {(row["owner"], row["idempotency_key"]): row for row in stored}
    return [by_id.get(row["id"]) or by_key[row["owner"], row["idempotency_key"]] for row in rows]
