"""Reads new entries of all predictions' streams that have readers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from inference_contract import backoff, queues
from inference_gateway.predictions.waiting.event_hub import end_tasks
from inference_gateway.predictions.waiting.waiters import StreamEntry, StreamWaiter
from inference_gateway.redis.bounded_reader import MAX_ENTRIES, TooManyParts
from inference_gateway.redis.replies import is_keys_own

log = logging.getLogger(__name__)

_BLOCK_MS = 1000
_MAX_COUNT = 500
_READ_BYTES = 1_000_000
"""Target size of one read of all streams: runners decide how large entries are."""
_GATHER_SECONDS = 0.005
_BACKOFF_SECONDS = (0.05, 2.0)
_BEGINNING = b"0-0"


@dataclass
class _Stream:
    position: bytes
    watchers: list[StreamWaiter] = field(default_factory=list)
    is_readable: bool = True


class Tails:
    """One task reads all streams in one blocking XREAD. For one event loop.

    Args:
        client: a client that returns bytes; one of its connections is used permanently.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._streams: dict[str, _Stream] = {}
        self._grown = asyncio.Event()
        self._is_reading = False
        self._new: set[str] = set()
        """Streams that are not part of the running XREAD."""
        self._client_id: int | None = None
        self._count = _MAX_COUNT
        """Entries of each stream in one read."""
        self._task: asyncio.Task[None] | None = None
        self._interruption: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._read_forever(), name="tails")

    async def stop(self) -> None:
        await end_tasks(task for task in (self._task, self._interruption) if task is not None)

    async def add(self, watcher: StreamWaiter) -> None:
        """Push new entries of its stream to the watcher. Call `leave` at the end."""
        name = _name(watcher)
        if name not in self._streams:
            await self._add_stream(name)
        self._streams[name].watchers.append(watcher)

    def leave(self, watcher: StreamWaiter) -> None:
        name = _name(watcher)
        watchers = self._streams[name].watchers
        watchers.remove(watcher)
        if not watchers:
            del self._streams[name]
            self._new.discard(name)

    def followed(self) -> int:
        """Streams that somebody follows."""
        return len(self._streams)

    async def _add_stream(self, name: str) -> None:
        """Read a stream from its present end; from its beginning if Redis does not answer."""
        position = _BEGINNING
        if self._client_id is not None:
            with contextlib.suppress(RedisError, OSError):
                position = await _last_id(self._redis, name)
        # Another reader may have added it meanwhile.
        if name not in self._streams:
            self._streams[name] = _Stream(position)
            self._new.add(name)
        self._grown.set()
        if self._is_reading and self._new and self._interruption is None:
            self._interruption = asyncio.create_task(self._interrupt_read())

    async def _interrupt_read(self) -> None:
        """Interrupt the running XREAD (CLIENT UNBLOCK), once for all streams added within some
        milliseconds.

        Redis replies 0 if the XREAD has not arrived yet, so it is repeated.
        """
        try:
            with contextlib.suppress(RedisError, OSError):
                while self._is_reading and self._new and self._client_id is not None:
                    await self._redis.client_unblock(self._client_id)
                    await asyncio.sleep(_GATHER_SECONDS)
        finally:
            self._interruption = None

    async def _read_forever(self) -> None:
        failures = 0
        while True:
            await self._something_to_read()
            try:
                async with self._redis.client() as connection:
                    self._client_id = await connection.client_id()
                    await self._rewind_new_streams(connection)
                    failures = 0
                    while True:
                        await self._read(connection)
            except (RedisError, OSError) as error:
                log.warning("Redis does not answer, streams pause: %s", error)
            except Exception:
                log.exception("the reader of streams failed")
            finally:
                self._is_reading, self._client_id = False, None
            failures += 1
            await asyncio.sleep(backoff.pause(failures, *_BACKOFF_SECONDS))

    async def _something_to_read(self) -> None:
        while not any(stream.is_readable for stream in self._streams.values()):
            self._grown.clear()
            await self._grown.wait()

    async def _rewind_new_streams(self, connection: redis.asyncio.Redis) -> None:
        """After a loss of Redis' data, a stream may be new, with smaller ids than before."""
        for name, stream in list(self._streams.items()):
            if not stream.is_readable:
                continue
            try:
                if _order(await _last_id(connection, name)) < _order(stream.position):
                    stream.position = _BEGINNING
            except ResponseError:
                continue
            except TooManyParts as error:
                self._give_up(name, error)
                raise

    async def _read(self, connection: redis.asyncio.Redis) -> None:
        await self._something_to_read()
        positions: dict[Any, Any] = {
            name: s.position for name, s in self._streams.items() if s.is_readable
        }
        self._is_reading = True
        self._new.clear()
        try:
            count = max(1, min(self._count, MAX_ENTRIES // len(positions)))
            replies: Any = await connection.xread(positions, count=count, block=_BLOCK_MS)
        except TooManyParts:
            await self._leave_out(self._redis, positions)
            raise
        except ResponseError as error:
            if not is_keys_own(error):
                raise
            await self._leave_out(connection, positions)
            return
        finally:
            self._is_reading = False
        size = 0
        for name, entries in replies or ():
            if (stream := self._streams.get(name.decode())) is not None and entries:
                stream.position = entries[-1][0]
                news = [StreamEntry(i, fields.get(b"d", b"{}")) for i, fields in entries]
                size += sum(len(entry.data) for entry in news)
                for watcher in stream.watchers:
                    watcher.push(news)
        self._count = max(1, self._count // 4) if size > _READ_BYTES else _more(self._count)

    async def _leave_out(self, connection: redis.asyncio.Redis, positions: dict[Any, Any]) -> None:
        """Stop reading keys that a runner has turned into something else than a readable stream."""
        for name, position in positions.items():
            try:
                await connection.xread({name: position}, count=self._count)
            except (ResponseError, TooManyParts) as error:
                if not isinstance(error, TooManyParts) and not is_keys_own(error):
                    raise
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        log.warning("%s: %s: its readers wait for the end", name, error)
        if (stream := self._streams.get(name)) is not None:
            stream.is_readable = False


def _more(count: int) -> int:
    return min(2 * count, _MAX_COUNT)


def _name(watcher: StreamWaiter) -> str:
    return queues.stream_key(watcher.key, watcher.prediction_id)


async def _last_id(client: redis.asyncio.Redis, stream: str) -> bytes:
    last: Any = await client.xrevrange(stream, count=1)
    return last[0][0] if last else _BEGINNING


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)
