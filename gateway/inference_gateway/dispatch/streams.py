"""Which event streams to read, and how they are kept short."""

from __future__ import annotations

import time
from collections.abc import Iterable, Set
from typing import Any

import redis
from sqlalchemy import Engine

from inference_contract.queues import DOORBELL, RECORDER_GROUP, events_key, model_key
from inference_gateway.open_models import open_models

_KEEP_SECONDS = 60.0
_ASK_DATABASE_EVERY = 5.0
_ASK_DOORBELL_EVERY = 0.1
_TRIM_EVERY = 1.0
_RETAIN_MS = 5000
"""A gateway between two reads must still find an entry that is recorded already."""


class Keys:
    """The keys of the models that have work, or had some a minute ago.

    Two sources: the doorbell is quick, PostgreSQL forgets nothing.
    """

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._redis = client
        self._until: dict[str, float] = {}
        self._last_ring: bytes | str = "0-0"
        self._doorbell_at = 0.0
        self._database_at = 0.0
        self._trim_at = 0.0

    @property
    def all(self) -> Set[str]:
        return self._until.keys()

    def heard(self, keys: Iterable[str]) -> None:
        """There were events of these models: keep listening for a while."""
        until = time.monotonic() + _KEEP_SECONDS
        self._until.update(dict.fromkeys(keys, until))

    def refresh(self) -> set[str]:
        """Look for models with work; those that are new."""
        now = time.monotonic()
        before = set(self._until)
        if now >= self._doorbell_at:
            self.heard(self._rings())
            self._doorbell_at = now + _ASK_DOORBELL_EVERY
        if now >= self._database_at:
            self.heard(map(model_key, open_models(self._engine)))
            self._database_at = now + _ASK_DATABASE_EVERY
            self._until = {key: until for key, until in self._until.items() if until > now}
        return set(self._until) - before

    def _rings(self) -> set[str]:
        read: Any = self._redis.xread({DOORBELL: self._last_ring})
        rings = [ring for _, found in read for ring in found]
        if rings:
            self._last_ring = rings[-1][0]
        return {fields[b"model"].decode() for _, fields in rings if b"model" in fields}

    def due_for_trim(self) -> Set[str]:
        """All keys, once a second."""
        now = time.monotonic()
        if now < self._trim_at:
            return frozenset()
        self._trim_at = now + _TRIM_EVERY
        return self.all


def ensure_groups(client: redis.Redis, keys: Iterable[str]) -> None:
    """Make the consumer group where it is missing; it reads from the stream's start."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xgroup_create(events_key(key), RECORDER_GROUP, id="0", mkstream=True)
        for reply in pipe.execute(raise_on_error=False):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply


def trim(client: redis.Redis, keys: Iterable[str]) -> None:
    """Drop what is old and acknowledged."""
    streams = [events_key(key) for key in keys]
    if not streams:
        return
    with client.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xpending(stream, RECORDER_GROUP)
            pipe.xinfo_groups(stream)
        pipe.time()
        *replies, (seconds, microseconds) = pipe.execute()
        now = seconds * 1000 + microseconds // 1000
        for stream, pending, groups in zip(streams, replies[::2], replies[1::2], strict=True):
            first = trim_before(now, [g["last-delivered-id"] for g in groups], pending["min"])
            pipe.xtrim(stream, minid=first, approximate=True)
        pipe.execute()


def trim_before(now_ms: int, delivered: Iterable[bytes], first_pending: bytes | None) -> str:
    """The first id to keep: nothing young, nothing unread by a group, nothing unacknowledged."""
    ids = [(now_ms - _RETAIN_MS, 0), *map(_number, delivered)]
    if first_pending:
        ids.append(_number(first_pending))
    return "{}-{}".format(*min(ids))


def _number(entry_id: bytes) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)
