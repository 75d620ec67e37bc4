"""Detects that Redis has lost data: jobs, leases, unread events."""

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
        """Whether Redis was replaced, restarted or emptied since the last call; a restart loses
        writes that were not yet in the AOF. False at the first call.

        Raises:
            redis.RedisError: Redis does not answer, or refuses writes.
        """
        self._redis.set(_MARK_KEY, secrets.token_hex(8), nx=True)
        memory = _Memory(self._redis.info("server")["run_id"], self._redis.get(_MARK_KEY))
        changed = self._memory not in (None, memory)
        self._memory = memory
        return changed
