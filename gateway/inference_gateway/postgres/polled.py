"""PostgreSQL on the event loop: statements without a thread."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

_log = logging.getLogger(__name__)

_SECONDS = 5.0
"""Timeout of connecting and preparing, without resolving the server's name."""


class Polled:
    """For one event loop, and one statement at a time. Connects at the first use, and again after
    `close`. Each statement is a transaction of its own.

    Args:
        connect: opens a connection in psycopg2's asynchronous mode; blocks, and raises what
            psycopg2 raises.
        statements: sent first on each new connection, with the PREPARE.
        threads: for long work.
    """

    def __init__(
        self, connect: Callable[[], Connection], statements: str, threads: Executor
    ) -> None:
        self._connect = connect
        self._statements = statements
        self._threads = threads
        self._connection: Connection | None = None
        self._file = -1
        self._writes = False
        self._answer: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def open(self) -> None:
        """Connect, if not connected. Raises psycopg2.Error."""
        if self._connection is None:
            loop = asyncio.get_running_loop()
            self._connection = await loop.run_in_executor(self._threads, self._opened)
            self._file = self._connection.fileno()
            loop.add_reader(self._file, self._advance)

    async def ask(
        self, statement: str, parameters: tuple[Any, ...], *, is_large: bool = False
    ) -> tuple[Any, ...]:
        """Execute a statement and return its row. Call `open` first.

        Args:
            is_large: the parameters take long to quote and to copy.

        Raises:
            psycopg2.Error: if the connection is still open afterwards, PostgreSQL refused it.
        """
        assert self._connection is not None
        loop = asyncio.get_running_loop()
        cursor = self._connection.cursor()
        try:
            if is_large:
                loop.remove_reader(self._file)
                await loop.run_in_executor(self._threads, cursor.execute, statement, parameters)
                loop.add_reader(self._file, self._advance)
            else:
                cursor.execute(statement, parameters)
            self._answer = loop.create_future()
            self._advance()
            await self._answer
            (row,) = cursor.fetchall()
        except psycopg2.Error as error:
            if not _refused(error):
                self.close()
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None
        return tuple(row)

    def close(self) -> None:
        if self._connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._file)
        loop.remove_writer(self._file)
        self._writes = False
        self._connection.close()
        self._connection = None

    def _advance(self) -> None:
        """Called when the socket is readable or writable."""
        assert self._connection is not None
        try:
            state = self._connection.poll()
        except psycopg2.Error as error:
            if self._answer is None:
                _log.info("an idle connection to PostgreSQL was closed by the server")
                self.close()
            elif not self._answer.done():
                self._answer.set_exception(error)
            return
        if (state == POLL_WRITE) is not self._writes:
            self._writes = not self._writes
            loop = asyncio.get_running_loop()
            if self._writes:
                loop.add_writer(self._file, self._advance)
            else:
                loop.remove_writer(self._file)
        if state == POLL_OK and self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _opened(self) -> Connection:
        try:
            connection = self._connect()
        except OSError as error:  # The server's name cannot be resolved.
            raise psycopg2.OperationalError(str(error)) from error
        until = time.monotonic() + _SECONDS
        try:
            _settle(connection, until)
            cursor = connection.cursor()  # psycopg2 needs the reference until the result.
            cursor.execute(self._statements)
            _settle(connection, until)
        except BaseException:
            connection.close()
            raise
        return connection


def _refused(error: psycopg2.Error) -> bool:
    """Whether PostgreSQL refused the statement; not: it shuts down or cannot be reached."""
    code = error.pgcode
    return code is not None and not code.startswith(("08", "57P"))


def _settle(connection: Connection, until: float) -> None:
    """Raises psycopg2.Error."""
    while (state := connection.poll()) != POLL_OK:
        waiting = select.poll()  # `select.select` supports only descriptors below 1,024.
        waiting.register(connection, select.POLLOUT if state == POLL_WRITE else select.POLLIN)
        left = until - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            raise psycopg2.OperationalError("PostgreSQL does not answer in time")
