"""A raw connection to PostgreSQL that stores each batch of new predictions at most once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import TypeVar

import orjson
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.lifecycle.prediction import NewRow, State
from inference_gateway.postgres import db, stored
from inference_gateway.postgres.polled import Polled
from inference_gateway.predictions.creating import statements

log = logging.getLogger(__name__)

_IN_DOUBT_SECONDS = 10.0
_RETRY_SECONDS = 0.2
T = TypeVar("T")
LARGE_BYTES = 100_000
"""Bytes of inputs; larger batches are processed on a thread."""

Find = Callable[[Sequence[NewRow]], list[State]]
"""Returns the stored rows with the ids, or else the idempotency keys, of these rows. Blocks."""


class InDoubt(Exception):
    """It is not known whether PostgreSQL stored a batch."""


class InsertConnection:
    """For one event loop, and one batch at a time. Connects at the first use, and again after the
    connection broke.

    When a connection breaks during a batch, it is not known whether the batch was committed. It is
    sent again, which has no effect if it was. A committed batch is never undone: another request
    may have read it by its idempotency key.

    Args:
        connect: opens a connection (see `Polled`).
        threads: for long work.
        in_doubt_seconds: how long to retry.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        find: Find,
        threads: Executor,
        in_doubt_seconds: float = _IN_DOUBT_SECONDS,
    ) -> None:
        self._postgres = Polled(connect, statements.PREPARE, threads)
        self._find = find
        self._threads = threads
        self.in_doubt_seconds = in_doubt_seconds
        """How long the next batch that is in doubt is sent again."""

    async def insert(self, rows: Sequence[NewRow]) -> Sequence[NewRow | State]:
        """Store rows in one statement; fills in `created_at` and `deadline`.

        Returns:
            The same rows, in order; in place of one whose idempotency key was taken, the older row.

        Raises:
            psycopg2.Error: nothing was stored.
            InDoubt: either the whole batch was stored, or nothing.
            TypeError, ValueError: one of them cannot be encoded; nothing was stored.
        """
        is_large = sum(row["input_bytes"] for row in rows) > LARGE_BYTES
        content = await self._on_thread(_encode, rows) if is_large else _encode(rows)
        until: float | None = None
        while True:
            try:
                return await self._insert(content, rows, is_large=is_large)
            except (psycopg2.DataError, psycopg2.IntegrityError):
                raise  # The first attempt was refused for the same reason.
            except InDoubt as error:
                if until is None:
                    until = time.monotonic() + self.in_doubt_seconds
                    log.warning("the connection broke while storing: %s", error)
            except psycopg2.Error:
                if until is None:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            if time.monotonic() > until:
                raise InDoubt("PostgreSQL does not answer")

    def hurry(self) -> None:
        """Stop retrying: the process is about to stop."""
        self.in_doubt_seconds = 0.0

    def close(self) -> None:
        self._postgres.close()

    async def _insert(
        self, content: str, rows: Sequence[NewRow], *, is_large: bool
    ) -> Sequence[NewRow | State]:
        await self._postgres.open()
        try:
            answer = await self._postgres.ask(statements.INSERT, (content,), is_large=is_large)
        except psycopg2.Error as error:
            if not self._postgres.is_open:
                raise InDoubt(db.describe(error)) from error
            if error.pgcode == db.READ_ONLY:
                self.close()  # A new connection may lead to the new primary.
            raise
        created_at, inserted = answer
        if inserted != len(rows):
            try:
                return await self._on_thread(self._find, rows)
            except (psycopg2.Error, SQLAlchemyError) as error:
                raise InDoubt(db.describe(error)) from error
        for row in rows:
            row["created_at"] = created_at
            row["deadline"] = created_at + timedelta(seconds=row["lives_seconds"])
        return rows

    async def _on_thread(self, work: Callable[[Sequence[NewRow]], T], rows: Sequence[NewRow]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, rows)


def _encode(rows: Sequence[NewRow]) -> str:
    return orjson.dumps([record(row) for row in rows], default=stored.as_json).decode()


def record(row: NewRow) -> dict[str, object]:
    """`statements.INSERTED`. (Written out: by their names it costs a microsecond more.)"""
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
