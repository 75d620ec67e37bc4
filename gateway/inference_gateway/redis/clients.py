"""Clients of Redis whose connections are exempt from client eviction and never use a replica.

Redis disconnects clients with the largest buffers (`maxmemory-clients`), which might be a recorder
with much to read. When the primary has moved (`inference_contract.primary`), one connection notices
and all others follow, also read-only ones: redis-py reconnects, and repeats commands that a replica
has refused.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis._parsers import _AsyncHiredisParser, _HiredisParser
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from inference_contract import primary
from inference_gateway.redis.bounded_reader import BoundedReader

_DRIVER = DriverInfo()
"""Created once: otherwise each connection reads redis-py's version from its package files, on the
event loop."""
_KEEP = ("CLIENT", "NO-EVICT", "ON")


class Elsewhere(redis.ConnectionError):
    """The primary has moved: the connection is dropped, as redis-py does when Redis is LOADING."""


class NotPrimary(redis.RedisError):
    """The address leads to a replica. Not retried: the address must be corrected first."""


class _Parser:
    """Extends redis-py's two parsers."""

    _reader: Any
    _departures = 0
    """How often a connection of this process noticed that the primary has moved."""
    _seen = 0

    def on_connect(self, *args: Any, **options: Any) -> None:
        self._seen = _Parser._departures
        super().on_connect(*args, **options)  # type: ignore[misc]
        self._reader = BoundedReader(
            protocolError=redis.InvalidResponse,
            replyError=self._reply_error,
            notEnoughData=NOT_ENOUGH_DATA,
        )

    def _reply_error(self, response: str) -> Exception:
        if primary.is_elsewhere(response):
            # To a connection from before the last time it is no news: those made since are right.
            if self._seen == _Parser._departures:
                _Parser._departures += 1
            return Elsewhere(response)
        error: Exception = self.parse_error(response)  # type: ignore[attr-defined]
        return error

    def _follow(self) -> None:
        if self._seen != _Parser._departures:
            raise Elsewhere("the primary is elsewhere: another connection was told so")


class _BlockingParser(_Parser, _HiredisParser):
    def can_read(self, *args: Any, **options: Any) -> bool:
        self._follow()  # The pool calls it before it hands the connection out.
        return super().can_read(*args, **options)

    def read_from_socket(self, *args: Any, **options: Any) -> Any:
        self._follow()
        return super().read_from_socket(*args, **options)  # type: ignore[no-untyped-call]


class _AsynchronousParser(_Parser, _AsyncHiredisParser):
    async def can_read(self) -> bool:
        self._follow()
        return await super().can_read()

    async def read_from_socket(self) -> Any:
        self._follow()
        return await super().read_from_socket()  # type: ignore[no-untyped-call]


def _greet(connection: Any) -> None:
    connection.on_connect()
    connection.send_command(*_KEEP)
    connection.send_command(*primary.ASK_ROLE)
    with suppress(redis.ResponseError):  # The user may lack this right.
        connection.read_response()
    with suppress(redis.ResponseError):
        _check(connection.read_response())


async def _greet_async(connection: Any) -> None:
    await connection.on_connect()
    await connection.send_command(*_KEEP)
    await connection.send_command(*primary.ASK_ROLE)
    with suppress(redis.ResponseError):
        await connection.read_response()
    with suppress(redis.ResponseError):
        _check(await connection.read_response())


def _check(hello: Any) -> None:
    if primary.is_replica(hello):
        raise NotPrimary("the address of Redis leads to a replica")


def blocking(url: str, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        redis_connect_func=_greet,
        parser_class=_BlockingParser,
        retry=redis.retry.Retry(NoBackoff(), 1, (Elsewhere,)),
        driver_info=_DRIVER,
        **options,
    )


def asynchronous(url: str, **options: Any) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url,
        redis_connect_func=_greet_async,
        parser_class=_AsynchronousParser,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 1, (Elsewhere,)),
        driver_info=_DRIVER,
        **options,
    )
