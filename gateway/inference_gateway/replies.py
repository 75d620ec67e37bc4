"""What Redis answers, key by key: runners may write the keys of their model as they like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

_KEYS_OWN = ("WRONGTYPE", "NOGROUP", "no such key", "The stream has exhausted", "invalid start ID")


def is_keys_own(error: Exception) -> bool:
    """Whether an error concerns the key that it was asked of, and no other."""
    return isinstance(error, redis.ResponseError) and str(error).startswith(_KEYS_OWN)


def each(pipe: Any) -> list[Any]:
    """The replies to a pipeline, with an error that is a key's own in its place.

    Raises:
        redis.RedisError: it is away, or refuses for a reason that concerns all.
    """
    found: list[Any] = pipe.execute(raise_on_error=False)
    for reply in found:
        if isinstance(reply, Exception) and not is_keys_own(reply):
            raise reply
    return found


def ask(
    client: redis.Redis, commands: Sequence[tuple[Any, ...]], *, again: bool = True
) -> list[Any]:
    """Send commands in one write; the replies as the server gives them.

    For what every prediction pays: redis-py's own methods and pipelines cost twice as much.

    Args:
        again: send it again, as redis-py's clients do, if the answer is lost: only what may be
            done twice.

    Raises:
        redis.RedisError: it is away, or refused one; the others are done.
    """
    connection: Any = client.connection_pool.get_connection()

    def once() -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_reply(connection) for _ in commands]

    try:
        replies: list[Any] = (
            connection.retry.call_with_retry(once, lambda _error: connection.disconnect())
            if again
            else once()
        )
    finally:
        client.connection_pool.release(connection)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
