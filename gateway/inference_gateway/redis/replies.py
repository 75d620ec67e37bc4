"""Replies of Redis with errors per key: runners may damage the keys of their model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_KEYS_OWN = ("WRONGTYPE", "NOGROUP", "no such key", "The stream has exhausted", "invalid start ID")


def is_keys_own(error: Exception) -> bool:
    """Whether an error concerns only the key of the command."""
    return isinstance(error, redis.ResponseError) and str(error).startswith(_KEYS_OWN)


def each(pipe: Any) -> list[Any]:
    """The replies to a pipeline; errors of single keys are part of the list.

    Raises:
        redis.RedisError: Redis does not answer, or refuses for a reason that concerns all keys.
    """
    found: list[Any] = pipe.execute(raise_on_error=False)
    for reply in found:
        if isinstance(reply, Exception) and not is_keys_own(reply):
            raise reply
    return found


def ask(
    client: redis.Redis, commands: Sequence[tuple[Any, ...]], *, again: bool = True
) -> list[Any]:
    """Send commands in one write. Returns the server's raw replies.

    For the hot path: redis-py's methods and pipelines cost twice as much.

    Args:
        again: send the commands again if the replies are lost, as redis-py does: only for
            idempotent commands.

    Raises:
        redis.RedisError: Redis does not answer, or refused a command; the others were executed.
    """
    connection = client.connection_pool.get_connection()
    try:
        return _ask(connection, commands, again=again)
    finally:
        client.connection_pool.release(connection)


class Line:
    """A permanent connection to Redis for one thread: taking one from the pool and returning it
    costs as much as a command.

    Args:
        client: a client of the server.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._connection = client.connection_pool.make_connection()

    def ask(self, commands: Sequence[tuple[Any, ...]], *, again: bool = True) -> list[Any]:
        """As the function `ask`."""
        return _ask(self._connection, commands, again=again)


def _ask(connection: Any, commands: Sequence[tuple[Any, ...]], *, again: bool) -> list[Any]:
    def once() -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [_reply(connection) for _ in commands]

    replies: list[Any] = (
        connection.retry.call_with_retry(once, lambda _error: connection.disconnect())
        if again
        else once()
    )
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


class Pipe:
    """A permanent connection to Redis for one task at a time of an event loop.

    redis-py's asynchronous clients and pools cost three times as much.

    Args:
        seconds: for all replies to a batch of commands.
    """

    def __init__(self, client: redis.asyncio.Redis, seconds: float) -> None:
        pool = client.connection_pool
        options = {**pool.connection_kwargs, "socket_timeout": None, "retry": Retry(NoBackoff(), 0)}
        self._connection: Any = pool.connection_class(**options)
        self._transport: asyncio.WriteTransport | None = None
        self._seconds = seconds

    async def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `ask`. The commands are sent again if the connection was closed, as by a restart.

        Raises:
            redis.RedisError: Redis does not answer, or refused a command; the others were executed.
        """
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    replies = await self._ask(commands)
                except (redis.ConnectionError, OSError):
                    await self.close()
                    replies = await self._ask(commands)
        except TimeoutError:
            await self.close()
            raise redis.TimeoutError("Redis does not answer") from None
        except OSError as error:
            await self.close()
            raise redis.ConnectionError(str(error)) from error
        except BaseException:
            await self.close()
            raise
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()  # Otherwise it stays open until Redis has read everything.
            self._transport = None
        await self._connection.disconnect(nowait=True)

    async def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        connection = self._connection
        if not connection.is_connected:
            await connection.connect()
            self._transport = connection._writer.transport
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(timeout=math.inf))
            except redis.ResponseError as error:
                replies.append(error)
        return replies


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
