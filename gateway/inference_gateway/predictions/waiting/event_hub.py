"""Notifies waiting callers of the end of a prediction, once the end is committed.

Processes that commit ends publish them on a Redis channel that runners cannot write to (`ends.py`).
Messages may be lost: every few seconds the rows of all awaited predictions are read too, in one
query.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference_contract import backoff, queues
from inference_gateway.auth.accounts import Principal
from inference_gateway.lifecycle import ends
from inference_gateway.lifecycle.prediction import State
from inference_gateway.predictions.waiting.waiters import Ended, Waiter

log = logging.getLogger(__name__)

Lookup = Callable[[list[str]], Iterable[State]]
"""Ids → those rows that have ended, without their large columns. Blocks."""

_POLL_SECONDS = 1.0
_KEEP_SECONDS = 60.0
"""How long the subscription is kept after the last waiter, so that the next one starts at once."""
_SUBSCRIBE_SECONDS = 1.0
_LOOKUP_AT_ONCE = 1000
_BACKOFF_SECONDS = (0.05, 2.0)


class EventHub:
    """Everything but `lookup` runs on one event loop.

    Args:
        client: a client that returns bytes; the hub uses one of its connections permanently.
        lookup: reads the rows, to detect lost messages.
        recheck_seconds: pause between two lookups.
    """

    def __init__(
        self, client: redis.asyncio.Redis, lookup: Lookup, recheck_seconds: float = 5.0
    ) -> None:
        self._redis = client
        self._lookup = lookup
        self.recheck_seconds = recheck_seconds
        self._waiters: dict[str, list[Waiter]] = {}
        self._idle_since = 0.0
        self._wanted = asyncio.Event()
        self._listens = asyncio.Event()
        self._is_away = False
        self._unsure: set[str] = set()
        """Predictions that have ended according to a message without columns."""
        self._look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen_forever(), name="hub-listen"),
            asyncio.create_task(self._look_forever(), name="hub-look"),
        ]

    async def stop(self) -> None:
        self.release()
        await end_tasks(self._tasks)

    def release(self, caller: Principal | None = None) -> None:
        """End all waits, or those of one caller."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if caller is None or waiter.caller is caller:
                    waiter.resolve(None)

    def callers(self) -> set[Principal]:
        """The callers with waiters."""
        return {w.caller for ws in self._waiters.values() for w in ws if w.caller is not None}

    def waited_for(self) -> int:
        """Number of awaited predictions."""
        return len(self._waiters)

    async def add(self, waiter: Waiter) -> None:
        """Register: ends that are committed from now on reach the waiter. Call `leave` at the
        end."""
        self._waiters.setdefault(waiter.prediction_id, []).append(waiter)
        self._wanted.set()
        if self._listens.is_set() or self._is_away:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                    await self._listens.wait()
        except BaseException:
            self.leave(waiter)
            raise

    def leave(self, waiter: Waiter) -> None:
        waiters = self._waiters[waiter.prediction_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.prediction_id]
            self._idle_since = time.monotonic()

    async def _listen_forever(self) -> None:
        failures = 0
        while True:
            await self._wanted.wait()
            try:
                await self._listen()
                failures = 0
                continue
            except (RedisError, OSError) as error:
                log.warning("Redis does not answer, ends are read from the rows: %s", error)
            except Exception:
                log.exception("the event hub failed")
            finally:
                if self._listens.is_set():
                    failures = 0
                self._listens.clear()
            self._is_away = True
            failures += 1
            await asyncio.sleep(backoff.pause(failures, *_BACKOFF_SECONDS))

    async def _listen(self) -> None:
        """Listen until there were no waiters for a while."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(queues.ENDED)
            while True:
                message = await channel.get_message(timeout=_POLL_SECONDS)
                if self._is_idle():  # Checked at messages too: other gateways may cause many.
                    self._wanted.clear()
                    return
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self._is_away = False
                    self._listens.set()
                    self._unsure |= self._waiters.keys()  # They may have ended meanwhile.
                    self._look.set()
                else:
                    self._heard_of(message["data"])

    def _is_idle(self) -> bool:
        return not self._waiters and time.monotonic() - self._idle_since > _KEEP_SECONDS

    def _heard_of(self, message: bytes) -> None:
        """Handle a message. If it cannot be parsed, the rows of all waiters are read."""
        try:
            self._heard(message)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            log.warning("a message of ends cannot be read: %s", error)
            self._unsure |= self._waiters.keys()
            self._look.set()

    def _heard(self, message: bytes) -> None:
        for prediction_id, columns in ends.read(message).items():
            if (waiters := self._waiters.get(prediction_id)) is None:
                continue
            if columns is None:
                self._unsure.add(prediction_id)
                self._look.set()
                continue
            end = Ended(ends.columns(columns))
            for waiter in waiters:
                waiter.resolve(end)

    async def _look_forever(self) -> None:
        all_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.recheck_seconds):
                    await self._look.wait()
            self._look.clear()
            wanted, self._unsure = self._unsure, set()
            if (now := time.monotonic()) >= all_at:
                wanted, all_at = set(self._waiters), now + self.recheck_seconds
            try:
                await self._look_at([name for name in wanted if name in self._waiters])
            except Exception as error:
                log.warning("rows of waiters cannot be read: %s", " ".join(str(error).split()))
                await asyncio.sleep(self.recheck_seconds)

    async def _look_at(self, waiting: list[str]) -> None:
        for start in range(0, len(waiting), _LOOKUP_AT_ONCE):
            part = waiting[start : start + _LOOKUP_AT_ONCE]
            for row in await asyncio.to_thread(self._lookup, part):
                for waiter in self._waiters.get(str(row["id"]), ()):
                    waiter.resolve(Ended(row, is_whole=False))


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        # redis-py can swallow a cancellation that comes while it connects: ask until it heard.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.05)
