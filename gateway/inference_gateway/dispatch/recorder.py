"""Event streams → PostgreSQL: reads as a consumer group, writes, then acknowledges.

Killed between writing and acknowledging, it writes again what the fence then refuses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from sqlalchemy import Engine

from inference_contract.queues import ENDED, RECORDER_GROUP, events_key
from inference_gateway import ends
from inference_gateway.dispatch import metrics
from inference_gateway.dispatch.events import parse
from inference_gateway.dispatch.fold import Entry, fold
from inference_gateway.dispatch.record import Recording
from inference_gateway.dispatch.streams import Keys, ensure_groups, repair, trim
from inference_gateway.replies import Line, is_keys_own

_log = logging.getLogger(__name__)
_MAX_COUNT = 500
_BATCH_BYTES = 8_000_000
"""Of events in memory at once, roughly: the batch shrinks when outputs are large."""
_BLOCK_MS = 250
"""Also how soon the first event of a model is noticed that just got work."""
_PAUSE = 0.025
"""Seconds between batches while nobody waits for an end, so that a batch is worth its statement."""
_ADOPT_EVERY = 10.0
_ADOPT_IDLE_MS = 30_000

_Read = list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]


class Recorder:
    """One of a group that shares the work.

    Args:
        consumer: the name to be known again by after a restart.
        told: set when webhook deliveries were made.
    """

    def __init__(
        self,
        engine: Engine,
        client: redis.Redis,
        *,
        lease_seconds: float,
        consumer: str,
        told: threading.Event,
    ) -> None:
        self._recording = Recording(engine, lease_seconds)
        self._redis = client
        self._line = Line(client)
        self._consumer = consumer
        self._told = told
        self._keys = Keys(engine, client)
        self._count = _MAX_COUNT
        self._unsure: set[str] = set()
        """Models whose entries may have been delivered to us and not acknowledged."""
        self._adopt_at = 0.0
        self._is_heard = True
        """Whether somebody waits: a gateway listened to what was last said to have ended."""

    def step(self) -> float:
        """One batch; raises what PostgreSQL or Redis raise, and then loses nothing."""
        new = self._keys.refresh()
        self._unsure |= new
        if not (keys := self._keys.readable):
            return _BLOCK_MS / 1000
        try:
            ensure_groups(self._redis, new)
            self._adopt()
            self._read_again()
            read = self._read_new(keys)
            self._handle(read)
            trim(self._redis, self._keys.due_for_trim())
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            broken = repair(self._redis, self._keys.all)
            _log.warning("event streams are gone, they are read from their start: %s", broken)
            self._keys.broken(broken)
            return 0
        return _PAUSE if read and not self._is_heard else 0

    def _read_new(self, keys: set[str]) -> _Read:
        """What is in an answer that is lost was delivered to us all the same, and nobody else is
        given it: so it is not asked for twice, and if there is no answer, read again."""
        self._unsure |= keys
        read = self._read(keys, b">", block=_BLOCK_MS)
        self._unsure -= keys
        return read

    def _read(self, keys: Iterable[str], after: bytes, block: int | None = None) -> _Read:
        streams = [events_key(key) for key in keys]
        wait = ("BLOCK", block) if block else ()
        command = (
            *("XREADGROUP", "GROUP", RECORDER_GROUP, self._consumer),
            *("COUNT", self._count, *wait, "STREAMS", *streams, *[after] * len(streams)),
        )
        (reply,) = self._line.ask([command], again=False)
        return _delivered(reply)

    def _read_again(self) -> None:
        """Entries that were delivered to us: before we failed or were killed, or to another."""
        while keys := self._unsure & self._keys.readable:
            read = self._read(keys, b"0")
            self._handle(read)
            if not read:
                self._unsure -= keys

    def _adopt(self) -> None:
        """Take over what was delivered to recorders that are dead: it is read as ours."""
        if time.monotonic() < self._adopt_at:
            return
        begins = dict.fromkeys(self._keys.readable, b"0-0")
        self._unsure |= begins.keys()
        while begins:
            commands = [
                (
                    *("XAUTOCLAIM", events_key(key), RECORDER_GROUP, self._consumer),
                    *(_ADOPT_IDLE_MS, begin, "COUNT", _MAX_COUNT, "JUSTID"),
                )
                for key, begin in begins.items()
            ]
            replies = self._line.ask(commands)
            nexts = {key: reply[0] for key, reply in zip(begins, replies, strict=True)}
            begins = {key: begin for key, begin in nexts.items() if begin != b"0-0"}
        self._adopt_at = time.monotonic() + _ADOPT_EVERY

    def _handle(self, read: _Read) -> None:
        """Write and acknowledge. What is not acknowledged is read again in the next round."""
        if not read:
            return
        keys = {stream.decode().removesuffix(":events") for stream, _ in read}
        self._unsure |= keys
        found = [entry for _, entries in read for entry in entries]
        self._size_up(found)
        changes = fold(_entries(found))
        recorded = self._recording.apply(changes, in_words=self._is_heard)
        ended = [change.id for change in changes if change.ended_ms is not None]
        messages: list[Any] = list(recorded.ends)
        if ended and (recorded.stale or not messages):
            # Of some nobody knows here how they have ended: recorded before we were killed, say.
            messages.append(ends.nameless(ended))
        self._acknowledge(read, messages)
        self._unsure -= keys
        self._keys.heard(keys)
        if ended:
            _log.info("recorded", extra={"predictions": ended, "stale": recorded.stale})
        metrics.RECORDED.inc(recorded.applied)
        metrics.STALE.inc(recorded.stale)
        if recorded.told:
            self._told.set()

    def _acknowledge(self, read: _Read, messages: Sequence[Any]) -> None:
        """It is written: say so to Redis, and to those who wait."""
        commands: list[tuple[Any, ...]] = [
            ("XACK", stream, RECORDER_GROUP, *(entry_id for entry_id, _ in entries))
            for stream, entries in read
        ]
        commands += [("PUBLISH", ENDED, message) for message in messages]
        replies = self._line.ask(commands)
        if messages:
            self._is_heard = replies[-1] > 0

    def _size_up(self, found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        size = sum(len(fields.get(b"d", b"")) for _, fields in found if fields)
        average = size / max(len(found), 1)
        self._count = max(1, min(_MAX_COUNT, int(_BATCH_BYTES / max(average, 1))))


def _delivered(reply: Any) -> _Read:
    """What XREADGROUP answers, by RESP 2 or 3; an entry that is gone by now has no fields."""
    streams = reply.items() if isinstance(reply, dict) else reply or ()
    return [
        (stream, [(name, _fields(fields or ())) for name, fields in found])
        for stream, found in streams
        if found
    ]


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entries(found: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    entries = []
    for entry_id, fields in found:
        if not fields:  # trimmed while it was pending: only the acknowledgement is left to do
            continue
        try:
            events, refused = parse(fields[b"d"])
        except (ValueError, KeyError) as error:
            metrics.SET_ASIDE.labels("recorder").inc()
            _log.warning("entry %s is dropped: %s", entry_id.decode(), error)
            continue
        if refused:
            metrics.SET_ASIDE.labels("recorder").inc(refused)
            _log.warning("entry %s: %d of its items are no events", entry_id.decode(), refused)
        entries.append(Entry(int(entry_id.partition(b"-")[0]), events))
    return entries
