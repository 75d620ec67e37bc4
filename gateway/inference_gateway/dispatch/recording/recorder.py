"""Event streams → PostgreSQL: reads as a consumer group, writes, then acknowledges.

If it is killed between writing and acknowledging, it writes the entries again, and the fence
refuses them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from sqlalchemy import Engine

from inference_contract.queues import ENDED, RECORDER_GROUP, events_key
from inference_gateway.dispatch import metrics
from inference_gateway.dispatch.recording.apply_changes import Recording
from inference_gateway.dispatch.recording.event_batch import Entry, fold
from inference_gateway.dispatch.recording.events import parse
from inference_gateway.dispatch.recording.portions import (
    MAX_COUNT,
    Counts,
    Entries,
    Part,
    Read,
    portions,
)
from inference_gateway.dispatch.recording.streams import StreamKeys, ensure_groups, repair, trim
from inference_gateway.lifecycle import ends
from inference_gateway.redis.bounded_reader import TooManyParts
from inference_gateway.redis.replies import Line, is_keys_own

_log = logging.getLogger(__name__)
_PASSES = 3
"""Batches of already delivered entries that are read before new ones."""
_LONG = 0.05
"""Seconds of CPU. A model whose part of a batch takes longer is paused for the same time."""
_BLOCK_MS = 250
"""Timeout of a blocking read; also the delay before a model with new work is read."""
_PAUSE = 0.025
"""Seconds between batches while no gateway waits for an end, so that batches are larger."""
_ADOPT_EVERY = 10.0
_ADOPT_IDLE_MS = 30_000


class Recorder:
    """A consumer of the group; several share the work.

    Args:
        consumer: name in the consumer group, the same after a restart.
        told: set when webhook deliveries were created.
    """

    def __init__(
        self,
        engine: Engine,
        client: redis.Redis,
        *,
        lease_seconds: float,
        consumer: str,
        told: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recording = Recording(engine, lease_seconds)
        self._redis = client
        self._line = Line(client)
        self._consumer = consumer
        self._told = told
        self._clock = clock
        self._keys = StreamKeys(engine, client)
        self._counts = Counts()
        self._unsure: set[str] = set()
        """Models that may have entries delivered to this consumer and not acknowledged."""
        self._adopt_at = 0.0
        self._is_heard = True
        """Whether a gateway received the last message about ends."""

    def step(self) -> float:
        """One batch. Errors of PostgreSQL and Redis are raised; no entry is lost by them."""
        new = self._keys.refresh()
        self._unsure |= new
        if not self._keys.readable:
            return _PAUSE if self._keys.all else _BLOCK_MS / 1000
        try:
            if new:
                ensure_groups(self._redis, new)
            self._adopt()
            self._read_again()
            is_read = self._read_new()
            trim(self._redis, self._keys.due_for_trim())
        except TooManyParts:
            self._remove_swollen()
            return 0
        except redis.ResponseError as error:
            if not is_keys_own(error):
                raise
            broken = repair(self._redis, self._keys.all)
            _log.warning("event streams are gone, they are read from their start: %s", broken)
            self._keys.broken(broken)
            return 0
        return _PAUSE if is_read and not self._is_heard else 0

    def _read_again(self) -> None:
        """Read entries that were delivered and not recorded: before a failure, to a dead recorder,
        or beyond a batch's portions."""
        for _ in range(_PASSES):
            if not (keys := self._unsure & self._keys.readable):
                return
            began = time.thread_time()
            read = self._read([Part(keys, self._counts.least(keys))], b"0")
            self._record(read, began)
            self._unsure -= keys - set(map(_key, read))

    def _read_new(self) -> bool:
        """Read and record new entries. Returns whether there were any.

        Entries in a lost reply count as delivered to this consumer, and no other gets them. So the
        read is not retried; after an error the pending entries are read again.
        """
        readable = self._keys.readable
        if not (keys := readable - self._unsure):  # or newer entries would overtake older ones
            return False
        block = None if readable & self._unsure else _BLOCK_MS
        self._unsure |= keys
        began = time.thread_time()
        read = self._read(self._counts.parts(keys), b">", block)
        self._unsure -= keys - set(map(_key, read))
        self._unsure -= self._record(read, began)
        return bool(read)

    def _read(self, parts: Iterable[Part], after: bytes, block: int | None = None) -> Read:
        commands: list[tuple[Any, ...]] = []
        for keys, count in parts:
            streams = [events_key(key) for key in keys]
            wait = ("BLOCK", block) if block and not commands else ()
            commands.append(
                (
                    *("XREADGROUP", "GROUP", RECORDER_GROUP, self._consumer),
                    *("COUNT", count, *wait, "STREAMS", *streams, *[after] * len(streams)),
                )
            )
        replies = self._line.ask(commands, again=False)
        read: dict[bytes, Entries] = {}
        for reply in replies:
            for stream, entries in _delivered(reply):
                read.setdefault(stream, []).extend(entries)
        return read

    def _remove_swollen(self) -> None:
        """Remove streams with an entry that is too large to read: it would fail again and again."""
        found = []
        for key in self._keys.sound:
            self._unsure.add(key)
            try:
                for after in (b"0", b">"):
                    self._read([Part({key}, self._counts.least({key}))], after)
            except TooManyParts as error:
                metrics.SET_ASIDE.labels("recorder").inc()
                _log.warning("the event stream of %s is removed: %s", key, error)
                self._redis.unlink(events_key(key))
                found.append(key)
            except redis.ResponseError as error:
                if not is_keys_own(error):
                    raise
        ensure_groups(self._redis, found)
        self._keys.broken(found)

    def _adopt(self) -> None:
        """Claim the pending entries of dead recorders."""
        if self._clock() < self._adopt_at:
            return
        begins = dict.fromkeys(self._keys.sound, b"0-0")
        self._unsure |= begins.keys()
        while begins:
            commands = [
                (
                    *("XAUTOCLAIM", events_key(key), RECORDER_GROUP, self._consumer),
                    *(_ADOPT_IDLE_MS, begin, "COUNT", MAX_COUNT, "JUSTID"),
                )
                for key, begin in begins.items()
            ]
            replies = self._line.ask(commands)
            nexts = {key: reply[0] for key, reply in zip(begins, replies, strict=True)}
            begins = {key: begin for key, begin in nexts.items() if begin != b"0-0"}
        self._adopt_at = self._clock() + _ADOPT_EVERY

    def _record(self, read: Read, began: float) -> set[str]:
        """Write and acknowledge a portion of each stream. The rest is read again in the next round.

        Args:
            began: CPU time of this thread before it read.

        Returns:
            The keys of models whose entries were all recorded.
        """
        if not read:
            return set()
        self._counts.learn(((_key(s), entries) for s, entries in read.items()), self._keys.all)
        chosen = portions(read)
        self._handle([(portion.stream, portion.entries) for portion in chosen])
        seconds = time.thread_time() - began
        size = sum(portion.size for portion in chosen)
        for portion in chosen:
            if seconds * portion.size > _LONG * size:
                self._keys.rest(_key(portion.stream), seconds * portion.size / size)
        return {_key(portion.stream) for portion in chosen if portion.is_whole}

    def _handle(self, read: Sequence[tuple[bytes, Entries]]) -> None:
        found = [entry for _, entries in read for entry in entries]
        changes = fold(_entries(found))
        recorded = self._recording.apply(changes, in_words=self._is_heard)
        ended = [change.id for change in changes if change.ended_ms is not None]
        messages: list[Any] = [recorded.message] if recorded.message else []
        if ended and (recorded.stale or not messages):
            # The ends of some are unknown here: they were recorded before this process started.
            messages.append(ends.nameless(ended))
        self._acknowledge(read, messages)
        self._keys.heard(_key(stream) for stream, _ in read)
        if ended:
            story = {"predictions": ended[:MAX_COUNT], "stale": recorded.stale}
            _log.info("recorded", extra=story)
        metrics.RECORDED.inc(recorded.applied)
        metrics.STALE.inc(recorded.stale)
        if recorded.has_told:
            self._told.set()

    def _acknowledge(self, read: Sequence[tuple[bytes, Entries]], messages: Sequence[Any]) -> None:
        """Acknowledge the recorded entries, and announce the ends to waiting gateways."""
        commands: list[tuple[Any, ...]] = [
            ("XACK", stream, RECORDER_GROUP, *(entry_id for entry_id, _ in entries))
            for stream, entries in read
        ]
        commands += [("PUBLISH", ENDED, message) for message in messages]
        replies = self._line.ask(commands)
        if messages:
            self._is_heard = replies[-1] > 0


def _delivered(reply: Any) -> Iterable[tuple[bytes, Entries]]:
    """The reply of XREADGROUP, by RESP 2 or 3; a deleted entry has no fields."""
    streams = reply.items() if isinstance(reply, dict) else reply or ()
    for stream, found in streams:
        if found:
            yield stream, [(name, _fields(fields or ())) for name, fields in found]


def _key(stream: bytes) -> str:
    return stream.decode().removesuffix(":events")


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entries(found: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    entries = []
    for entry_id, fields in found:
        if not fields:  # trimmed while it was pending: only acknowledge it
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
