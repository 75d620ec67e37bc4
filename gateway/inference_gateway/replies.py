"""What Redis answers, key by key: runners may write the keys of their model as they like."""

from __future__ import annotations

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
