"""A connection to PostgreSQL on which the statement of a hot path is prepared."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class


class Prepared:
    """For one thread. Connects when it is first asked, and anew after `close`.

    One statement is a transaction of its own, and is planned once.

    Args:
        connect: opens a connection; raises what it raises.
        statements: what is said on each new connection, PREPARE among it.
    """

    def __init__(self, connect: Callable[[], Connection], statements: str) -> None:
        self._connect = connect
        self._statements = statements
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """Raises psycopg2.Error if there is none to be had."""
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
