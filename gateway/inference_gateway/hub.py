"""Wakes whoever waits for predictions, from the event streams in Redis.

One task reads, in one blocking XREAD, the event stream of every model that somebody waits for and
the own stream of every prediction that somebody watches. Redis may lose an event or go away: every
few seconds the rows of all that is waited for are read too, in one query.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference_contract import queues
from inference_contract.predictions import TERMINAL
from inference_gateway.auth.accounts import Principal
from inference_gateway.dispatch.fold import parse
from inference_gateway.predictions.schemas import Row, has_ended
from inference_gateway.predictions.waiters import Heard, StreamEntry, Waiter, Watcher

log = logging.getLogger(__name__)

Lookup = Callable[[list[tuple[str, str]]], Iterable[Row]]
"""Ids and tokens → the rows among them that have ended, or have another token. Blocks."""

_BLOCK_MS = 1000
_COUNT = 500
_KEEP_SECONDS = 60.0
"""A model's stream is read so long after its last waiter went: the next one need not set it up."""
_LOOKUP_AT_ONCE = 1000
_BACKOFF_SECONDS = (0.05, 2.0)
_BEGINNING = b"0-0"


@dataclass
class _Stream:
    position: bytes
    users: int = 0
    idle_since: float = 0.0
    watchers: list[Watcher] | None = None
    """Of a prediction's own stream; None for a model's event stream."""


class Hub:
    """Everything but `lookup` runs on one event loop.

    Args:
        client: a client that returns bytes; the hub takes one connection of it for itself.
        lookup: finds the rows by which a lost event is noticed.
        recheck_seconds: how often it is asked.
    """

    def __init__(
        self, client: redis.asyncio.Redis, lookup: Lookup, recheck_seconds: float = 5.0
    ) -> None:
        self._redis = client
        self._lookup = lookup
        self._recheck_seconds = recheck_seconds
        self._waiters: dict[str, list[Waiter]] = {}
        self._doubts: dict[str, Heard] = {}
        """Terminal events whose token is not the one that was expected."""
        self._doubted = asyncio.Event()
        self._streams: dict[str, _Stream] = {}
        self._grown = asyncio.Event()
        self._reading: frozenset[str] = frozenset()
        """The streams of the XREAD that is under way."""
        self._client_id: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._read_forever(), name="hub-read"),
            asyncio.create_task(self._recheck_forever(), name="hub-recheck"),
        ]

    async def stop(self) -> None:
        self.release()
        for task in list(self._tasks):
            # redis-py can swallow a cancellation that comes while it connects: ask until it heard.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.05)

    def release(self, caller: Principal | None = None) -> None:
        """Let everybody go who waits, or those who wait for one caller."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if caller is None or waiter.caller is caller:
                    waiter.resolve(None)

    def callers(self) -> set[Principal]:
        """Those for whom somebody waits."""
        return {w.caller for ws in self._waiters.values() for w in ws if w.caller is not None}

    async def wait(self, key: str, prediction_id: str, token: str) -> Waiter:
        """Register a waiter: an event from now on will reach it. Call `leave` in the end."""
        events = queues.events_key(key)
        if events not in self._streams:
            await self._add_stream(events, None)
        waiter = Waiter(key, prediction_id, token)
        self._register(waiter)
        return waiter

    async def watch(self, key: str, prediction_id: str, token: str) -> Watcher:
        """As `wait`, for the prediction's output as it comes too."""
        events, own = queues.events_key(key), queues.stream_key(key, prediction_id)
        if events not in self._streams:
            await self._add_stream(events, None)
        if own not in self._streams:
            await self._add_stream(own, [])
        watcher = Watcher(key, prediction_id, token)
        self._register(watcher)
        stream = self._streams[own]
        assert stream.watchers is not None
        stream.watchers.append(watcher)
        return watcher

    def _register(self, waiter: Waiter) -> None:
        self._streams[queues.events_key(waiter.key)].users += 1
        self._waiters.setdefault(waiter.prediction_id, []).append(waiter)

    def leave(self, waiter: Waiter) -> None:
        waiters = self._waiters[waiter.prediction_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.prediction_id]
        events = self._streams[queues.events_key(waiter.key)]
        events.users -= 1
        if not events.users:
            events.idle_since = time.monotonic()
        if isinstance(waiter, Watcher):
            own = queues.stream_key(waiter.key, waiter.prediction_id)
            watchers = self._streams[own].watchers
            assert watchers is not None
            watchers.remove(waiter)
            if not watchers:
                del self._streams[own]

    async def _add_stream(self, name: str, watchers: list[Watcher] | None) -> None:
        """Begin to read a stream, from its present end on; from its beginning if Redis is away."""
        position = _BEGINNING
        if self._client_id is not None:
            with contextlib.suppress(RedisError, OSError):
                position = await _last_id(self._redis, name)
        # Somebody else may have added it meanwhile.
        new = _Stream(position, idle_since=time.monotonic(), watchers=watchers)
        self._streams.setdefault(name, new)
        self._grown.set()
        if self._reading and name not in self._reading:
            self._tasks.append(task := asyncio.create_task(self._interrupt_read(name)))
            task.add_done_callback(self._tasks.remove)

    async def _interrupt_read(self, name: str) -> None:
        """End the XREAD that does not have this stream.

        Redis answers 0 when the XREAD has not arrived yet, so once is not always enough.
        """
        with contextlib.suppress(RedisError, OSError):
            while self._reading and name not in self._reading and self._client_id is not None:
                await self._redis.client_unblock(self._client_id)
                await asyncio.sleep(0.005)

    async def _read_forever(self) -> None:
        pause = _BACKOFF_SECONDS[0]
        while True:
            try:
                async with self._redis.client() as connection:
                    self._client_id = await connection.client_id()
                    await self._rewind_new_streams(connection)
                    pause = _BACKOFF_SECONDS[0]
                    while True:
                        await self._read(connection)
            except (RedisError, OSError) as error:
                log.warning("redis is away, waiters look at their rows: %s", error)
            except Exception:
                log.exception("the hub stumbled")
            finally:
                self._reading, self._client_id = frozenset(), None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _BACKOFF_SECONDS[1])

    async def _rewind_new_streams(self, connection: redis.asyncio.Redis) -> None:
        """After a Redis that forgot, a stream may be a new one, whose ids are below the old."""
        for name, stream in list(self._streams.items()):
            if _order(await _last_id(connection, name)) < _order(stream.position):
                stream.position = _BEGINNING

    async def _read(self, connection: redis.asyncio.Redis) -> None:
        self._drop_idle()
        if not self._streams:
            self._grown.clear()
            await self._grown.wait()
        positions: dict[Any, Any] = {name: s.position for name, s in self._streams.items()}
        self._reading = frozenset(positions)
        replies: Any = await connection.xread(positions, count=_COUNT, block=_BLOCK_MS)
        self._reading = frozenset()
        for name, entries in replies or ():
            if (stream := self._streams.get(name.decode())) is not None and entries:
                stream.position = entries[-1][0]
                self._deliver(stream, entries)

    def _drop_idle(self) -> None:
        until = time.monotonic() - _KEEP_SECONDS
        idle = [
            name
            for name, stream in self._streams.items()
            if stream.watchers is None and not stream.users and stream.idle_since < until
        ]
        for name in idle:
            del self._streams[name]

    def _deliver(self, stream: _Stream, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        if stream.watchers is not None:
            news = [StreamEntry(entry_id, fields.get(b"d", b"{}")) for entry_id, fields in entries]
            for watcher in stream.watchers:
                watcher.push(news)
            return
        for entry_id, fields in entries:
            try:
                events = parse(fields.get(b"d", b""))
            except ValueError:
                continue  # The recorder says what is wrong with it.
            for event in events:
                if event["id"] in self._waiters and event["type"] in TERMINAL:
                    self._ended(Heard(event, int(entry_id.partition(b"-")[0])))

    def _ended(self, heard: Heard) -> None:
        prediction_id = heard.event["id"]
        for waiter in self._waiters[prediction_id]:
            if waiter.token == heard.event["token"]:
                waiter.resolve(heard)
            elif not waiter.end.done():
                self._doubts[prediction_id] = heard
                self._doubted.set()

    async def _recheck_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._recheck_seconds):
                    await self._doubted.wait()
            try:
                await self._recheck()
            except Exception as error:
                log.warning("rows of waiters cannot be read: %s", " ".join(str(error).split()))
                await asyncio.sleep(self._recheck_seconds)

    async def _recheck(self) -> None:
        """Compare everybody who waits with their rows."""
        self._doubted.clear()
        doubts, self._doubts = self._doubts, {}
        waiting = [
            (waiter.prediction_id, waiter.token)
            for waiters in self._waiters.values()
            for waiter in waiters
            if not waiter.end.done()
        ]
        for start in range(0, len(waiting), _LOOKUP_AT_ONCE):
            part = waiting[start : start + _LOOKUP_AT_ONCE]
            for row in await asyncio.to_thread(self._lookup, part):
                self._compare(row, doubts.get(str(row["id"])))

    def _compare(self, row: Row, doubt: Heard | None) -> None:
        for waiter in self._waiters.get(str(row["id"]), ()):
            waiter.token = row["token"]
            if has_ended(row):
                waiter.resolve(row)
            elif doubt is not None and doubt.event["token"] == row["token"]:
                waiter.resolve(doubt)


async def _last_id(client: redis.asyncio.Redis, stream: str) -> bytes:
    last: Any = await client.xrevrange(stream, count=1)
    return last[0][0] if last else _BEGINNING


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)
