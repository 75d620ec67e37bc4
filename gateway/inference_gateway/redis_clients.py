"""Our own connections to Redis: none that it ends when its clients together hold too much.

Of those it ends the greediest (`maxmemory-clients`): that might be a recorder with much to read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis.driver_info import DriverInfo

_DRIVER = DriverInfo()
"""Made once: it looks for redis-py's version in the files of its package, else for each connection,
on the event loop."""
_KEEP = ("CLIENT", "NO-EVICT", "ON")


def _keep(connection: Any) -> None:
    connection.on_connect()
    connection.send_command(*_KEEP)
    with suppress(redis.ResponseError):  # Not every user may; then it is a client like others.
        connection.read_response()


async def _keep_async(connection: Any) -> None:
    await connection.on_connect()
    await connection.send_command(*_KEEP)
    with suppress(redis.ResponseError):
        await connection.read_response()


def blocking(url: str, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(url, redis_connect_func=_keep, driver_info=_DRIVER, **options)


def asynchronous(url: str, **options: Any) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url, redis_connect_func=_keep_async, driver_info=_DRIVER, **options
    )
