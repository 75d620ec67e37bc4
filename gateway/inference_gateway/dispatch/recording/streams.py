"""Which event streams to read, their consumer groups, and their trimming."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Set
from typing import Any

import redis
from sqlalchemy import Engine

from inference_contract.queues import DOORBELL, RECORDER_GROUP, events_key, model_key
from inference_gateway.dispatch import metrics
from inference_gateway.lifecycle.open_models import open_models
from inference_gateway.redis.replies import each, is_keys_own

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 60.0
_ASK_DATABASE_EVERY = 5.0
_ASK_DOORBELL_EVERY = 0.1
_TRIM_EVERY = 1.0
_ASIDE = 2.0
_MEMORY = 10.0
"""Seconds after which an earlier damage of a stream no longer counts."""
_FUTURE_MS = 3_600_000
_RETAIN_MS = 5000
"""Recorded entries are kept so long for gateways between two reads."""


class StreamKeys:
    """The keys of models that have work, or had some within the last minute.

    Two sources: the doorbell is fast, PostgreSQL is complete.
    """

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._redis = client
        self._until: dict[str, float] = {}
        self._aside: dict[str, float] = {}
        self._rests: dict[str, float] = {}
        self._last_ring: bytes | str = "0-0"
        self._doorbell_at = 0.0
        self._database_at = 0.0
        self._trim_at = 0.0

    @property
    def all(self) -> Set[str]:
        return self._until.keys()

    @property
    def sound(self) -> set[str]:
        """All keys except those with a stream that was repaired a moment ago."""
        now = time.monotonic()
        return {key for key in self._until if self._aside.get(key, 0.0) <= now}

    @property
    def readable(self) -> set[str]:
        """The sound keys that are not paused."""
        if not self._rests:
            return self.sound
        now = time.monotonic()
        self._rests = {key: until for key, until in self._rests.items() if until > now}
        return self.sound - self._rests.keys()

    def rest(self, key: str, seconds: float) -> None:
        """Pause a model whose entries took long; other models are read meanwhile."""
        if len(self._until) > 1:
            self._rests[key] = time.monotonic() + seconds

    def broken(self, keys: Iterable[str]) -> None:
        """Their streams were missing or of a wrong type. Repeatedly broken ones are read rarely."""
        now = time.monotonic()
        self._aside = {key: until for key, until in self._aside.items() if until > now - _MEMORY}
        for key in keys:
            self._aside[key] = now + (_ASIDE if key in self._aside else 0.0)

    def heard(self, keys: Iterable[str]) -> None:
        """There were events of these models: keep reading them for a while."""
        until = time.monotonic() + _KEEP_SECONDS
        self._until.update(dict.fromkeys(keys, until))

    def refresh(self) -> set[str]:
        """Look for models with work. Returns the new ones."""
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
        try:
            read: Any = self._redis.xread({DOORBELL: self._last_ring})
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            metrics.SET_ASIDE.labels("recorder").inc()
            _log.warning("%s cannot be read: %s; it is removed", DOORBELL, error)
            self._redis.delete(DOORBELL)
            return set()
        rings = [ring for _, found in read for ring in found]
        if rings:
            self._last_ring = rings[-1][0]
        return {
            fields[b"model"].decode(errors="replace") for _, fields in rings if b"model" in fields
        }

    def due_for_trim(self) -> Set[str]:
        """All keys, once a second."""
        now = time.monotonic()
        if now < self._trim_at:
            return frozenset()
        self._trim_at = now + _TRIM_EVERY
        return self.sound


def repair(client: redis.Redis, keys: Iterable[str]) -> list[str]:
    """Create missing streams and groups again, after damage by runners or a loss of Redis' data.

    Returns:
        The keys of those models.
    """
    keys = list(keys)
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xinfo_groups(events_key(key))
        found = dict(zip(keys, each(pipe), strict=True))
    broken = [key for key, groups in found.items() if not _has_group(groups)]
    for key in broken:
        if str(found[key]).startswith("WRONGTYPE"):
            metrics.SET_ASIDE.labels("recorder").inc()
            _log.warning("the event stream of %s is not a stream: it is removed", key)
            client.delete(events_key(key))
    ensure_groups(client, broken)
    return broken


def _has_group(groups: Any) -> bool:
    return not isinstance(groups, Exception) and any(
        group["name"] == RECORDER_GROUP.encode() for group in groups
    )


def ensure_groups(client: redis.Redis, keys: Iterable[str]) -> None:
    """Create missing consumer groups; they read from the stream's start."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xgroup_create(events_key(key), RECORDER_GROUP, id="0", mkstream=True)
        for reply in pipe.execute(raise_on_error=False):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply


def trim(client: redis.Redis, keys: Iterable[str]) -> None:
    """Trim old, acknowledged entries."""
    streams = [events_key(key) for key in keys]
    if not streams:
        return
    with client.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xpending(stream, RECORDER_GROUP)
            pipe.xinfo_groups(stream)
        pipe.time()
        *replies, (seconds, microseconds) = each(pipe)
        now = seconds * 1000 + microseconds // 1000
        for stream, pending, groups in zip(streams, replies[::2], replies[1::2], strict=True):
            if isinstance(pending, Exception) or isinstance(groups, Exception):
                continue  # Just damaged: the next read repairs it.
            first = trim_before(now, [g["last-delivered-id"] for g in groups], pending["min"])
            pipe.xtrim(stream, minid=first, approximate=True)
            if _is_ahead(now, groups) and not pending["pending"]:
                # No entry could be appended before the time of that id.
                metrics.SET_ASIDE.labels("recorder").inc()
                _log.warning("%s has ids in the future: it is created again", stream)
                pipe.delete(stream)
        each(pipe)


def _is_ahead(now_ms: int, groups: Iterable[dict[str, Any]]) -> bool:
    """Whether the last id is in the future (a runner chose it), and all entries were read."""
    return all(
        _number(group["last-delivered-id"])[0] > now_ms + _FUTURE_MS and group["lag"] == 0
        for group in groups
    )


def trim_before(now_ms: int, delivered: Iterable[bytes], first_pending: bytes | None) -> str:
    """The first id to keep: recent, unread and unacknowledged entries stay."""
    ids = [(now_ms - _RETAIN_MS, 0), *map(_number, delivered)]
    if first_pending:
        ids.append(_number(first_pending))
    return "{}-{}".format(*min(ids))


def _number(entry_id: bytes) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)
