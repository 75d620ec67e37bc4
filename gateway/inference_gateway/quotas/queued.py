"""How much of Redis the inputs of one account may take: what is beyond waits in PostgreSQL.

A prediction that waits so (`held` in its row) is put on its queue by dispatch once there is room:
nothing is refused, and nothing of others has to wait for it.
"""

from __future__ import annotations

import math
import time

import redis

_SHARE_FOR_INPUTS = 0.75
"""Of `maxmemory`. The rest is for what runners say, and for what cannot wait."""
_OWNERS = 8
"""So many accounts can at least have their budget; when there are more, each gets less."""
_LOOK_EVERY = 1.0


def fits(size: float, of_model: float, of_all: float, budget: float, room: float) -> bool:
    """Whether one more input may go to Redis.

    One model gets at most half of what the account's other models leave, or one input beyond the
    budget: however long the queues of others stand still, its own moves. And nobody gets more than
    a part of what is still free, so that a newcomer finds room though many others fill theirs.

    Args:
        of_model: bytes that its account's inputs for the same model take there.
        of_all: those for all models.
        budget: bytes that an account may have there.
        room: bytes that are free for all.
    """
    if 2 * size > room:
        return False
    fair = (room + of_all) / _OWNERS
    allowed = min(fair, budget)
    if of_model == 0 and of_all + size <= fair:
        return True
    return of_all == 0 or 2 * (of_model + size) <= allowed - (of_all - of_model)


class Room:
    """How many bytes of Redis are free for inputs, as last seen. Safe from any thread."""

    def __init__(self) -> None:
        self.bytes = math.inf
        self._at = -math.inf

    def look(self, client: redis.Redis) -> None:
        """Ask, unless that was done a moment ago. Raises redis.RedisError."""
        now = time.monotonic()
        if now - self._at < _LOOK_EVERY:
            return
        self._at = now
        self.bytes = free(client)


def free(client: redis.Redis) -> float:
    """Bytes; any number where Redis has no limit. Raises redis.RedisError."""
    memory = client.info("memory")
    most, used = memory.get("maxmemory", 0), memory["used_memory"]
    return max(most * _SHARE_FOR_INPUTS - used, 0.0) if most else math.inf
