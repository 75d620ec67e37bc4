"""One raw connection to PostgreSQL that stores batches of new predictions, exactly once each."""

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

from inference_gateway.predictions import statements
from inference_gateway.predictions.schemas import Row

log = logging.getLogger(__name__)

_IN_DOUBT_SECONDS = 10.0
_RETRY_SECONDS = 0.2


class Store:
    """For one thread. Connects when it is first used, and anew whenever the connection broke.

    When a connection breaks in the middle, nobody knows whether the batch was committed: it is then
    sent again, which changes nothing if it was.

    Args:
        connect: opens a connection, or raises psycopg2.OperationalError.
        in_doubt_seconds: how long to try that. Then the callers hear that nothing was stored, and
            `settle` sees to it that it becomes true.
    """

    def __init__(
        self, connect: Callable[[], Connection], in_doubt_seconds: float = _IN_DOUBT_SECONDS
    ) -> None:
        self._connect = connect
        self._in_doubt_seconds = in_doubt_seconds
        self._connection: Connection | None = None
        self._disowned: list[str] = []

    @property
    def owes(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._disowned)

    def insert(self, rows: Sequence[dict[str, Any]]) -> list[Row]:
        """Store rows in one statement; fills in `created_at` and `deadline`.

        Returns:
            The same rows, in order; in place of one whose idempotency key was taken, the older row.

        Raises:
            psycopg2.Error: nothing was stored.
        """
        content = orjson.dumps([_record(row) for row in rows]).decode()
        until: float | None = None
        while True:
            try:
                return self._insert(content, rows)
            except psycopg2.Error as error:
                sent = self._connection is not None
                if sent and not self._is_broken():
                    raise
                if sent and until is None:
                    until = time.monotonic() + self._in_doubt_seconds
                    log.warning("the connection broke while storing: %s", error)
                if until is None:
                    raise
                if time.monotonic() > until:
                    self._disowned += [row["id"] for row in rows]
                    raise
                if not sent:
                    time.sleep(_RETRY_SECONDS)

    def settle(self) -> None:
        """Remove what callers were told is not stored. Raises psycopg2.Error."""
        self._ready()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _insert(self, content: str, rows: Sequence[dict[str, Any]]) -> list[Row]:
        connection = self._ready()
        with connection.cursor() as cursor:
            cursor.execute(statements.INSERT, (content,))
            created_at, inserted = cursor.fetchone() or (None, 0)
        if inserted != len(rows):
            return _find(connection, rows)
        for row in rows:
            row["created_at"] = created_at
            row["deadline"] = created_at + timedelta(seconds=row["lives_seconds"])
        return list(rows)

    def _is_broken(self) -> bool:
        """Whether the connection is gone; it is dropped then."""
        broken = self._connection is None or self._connection.closed != 0
        if broken:
            self.close()
        return broken

    def _ready(self) -> Connection:
        """A connection that can store; leaves `_connection` None when there is none to be had."""
        if self._connection is None:
            connection = self._connect()
            try:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(statements.PREPARE)
            except psycopg2.Error:
                connection.close()
                raise
            self._connection = connection
        if self._disowned:
            with self._connection.cursor() as cursor:
                cursor.execute(statements.DISOWN, (self._disowned,))
            self._disowned = []
        return self._connection


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "owner": row["owner"],
        "model": row["model"],
        "version": row["version"],
        "token": row["token"],
        "input": row["input"],
        "webhook": row["webhook"],
        "webhook_events": row["webhook_events"],
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
