"""Whether Redis has lost what it was told: jobs, leases, and events that nobody had read."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import redis

_MARK_KEY = "inference:mark"


class _Memory(NamedTuple):
    run_id: str
    mark: Any


class Losses:
    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._memory: _Memory | None = None

    def seen(self) -> bool:
        """Whether this Redis is new, restarted or emptied since the last look; a restart loses what
        its file did not have yet. At the first look it is not.

        Raises:
            redis.RedisError: it is away, or takes no writes.
        """
        self._redis.set(_MARK_KEY, secrets.token_hex(8), nx=True)
        memory = _Memory(self._redis.info("server")["run_id"], self._redis.get(_MARK_KEY))
        changed = self._memory not in (None, memory)
        self._memory = memory
        return changed
