"""Limits the memory of Redis for inputs of one account; further predictions wait in PostgreSQL.

Dispatch puts such a prediction (`held` in its row) on its queue once there is space. No request is
refused, and other accounts do not wait.
"""

from __future__ import annotations

import math
import time

import redis

_SHARE_FOR_INPUTS = 0.75
"""Share of `maxmemory`. The rest is for runners' events and other keys."""
_OWNERS = 8
"""The budget of an account is at most this fraction: with more accounts, each gets less."""
_LOOK_EVERY = 1.0


def fits(size: float, of_model: float, of_all: float, budget: float, room: float) -> bool:
    """Whether one more input may go to Redis.

    A model gets at most half of what the account's other models leave, or one input beyond the
    budget, so that its queue moves even while the queues of other models do not. And no account
    gets more than a part of the free space, so that there is always space for a new account.

    Args:
        of_model: bytes in Redis of the account's inputs for the same model.
        of_all: bytes in Redis of the account's inputs for all models.
        budget: bytes that an account may have in Redis.
        room: bytes that are free for all accounts.
    """
    if 2 * size > room:
        return False
    fair = (room + of_all) / _OWNERS
    allowed = min(fair, budget)
    if of_model == 0 and of_all + size <= fair:
        return True
    return of_all == 0 or 2 * (of_model + size) <= allowed - (of_all - of_model)


class Room:
    """The last reading of the bytes of Redis that are free for inputs. Thread-safe."""

    def __init__(self) -> None:
        self.bytes = math.inf
        self._at = -math.inf

    def look(self, client: redis.Redis) -> None:
        """Read, unless it was read a moment ago. Raises redis.RedisError."""
        now = time.monotonic()
        if now - self._at < _LOOK_EVERY:
            return
        self._at = now
        self.bytes = free(client)


def free(client: redis.Redis) -> float:
    """Free bytes; inf if Redis has no limit. Raises redis.RedisError."""
    memory = client.info("memory")
    most, used = memory.get("maxmemory", 0), memory["used_memory"]
    return max(most * _SHARE_FOR_INPUTS - used, 0.0) if most else math.inf
