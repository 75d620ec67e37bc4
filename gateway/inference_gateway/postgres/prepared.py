"""A connection to PostgreSQL with prepared statements, for hot paths."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class


class Prepared:
    """For one thread. Connects at the first use, and again after `close`.

    Each statement is a transaction of its own, and is planned once.

    Args:
        connect: opens a connection; its exceptions are passed on.
        statements: sent first on each new connection, with the PREPARE.
    """

    def __init__(self, connect: Callable[[], Connection], statements: str) -> None:
        self._connect = connect
        self._statements = statements
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """The connection. Raises psycopg2.Error."""
        if self._connection is None:
            connection = self._connect()
            try:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(self._statements)
            except psycopg2.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
