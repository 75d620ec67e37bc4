"""Rate limits shared by all gateways, with little cost for a request.

`take` decides by local state; a task exchanges counts with Redis ten times a second, for many
callers in one Lua call. `take_exactly` asks Redis first, for rare and expensive requests. Redis
uses its own clock, each process another: only differences are exchanged. While Redis does not
answer, each gateway limits on its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from inference_gateway.errors import TooManyRequests
from inference_gateway.rates import metrics
from inference_gateway.rates.gcra import Cell, Rate, throttled

log = logging.getLogger(__name__)

SYNC_SECONDS = 0.1
"""Callers of several gateways may exceed a limit by their requests in this time."""
_AWAY_SECONDS = 1.0
_CHUNK = 500
"""Cells per script call, which blocks Redis."""
_TIDY_SECONDS = 30.0
_MAX_CELLS = 100_000

# Adds the counted requests, in seconds, and returns how far each `tat` lies ahead.
_ADD = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local ahead = {}
for i, key in ipairs(KEYS) do
  local tat = math.max(tonumber(redis.call('GET', key) or '0'), now) + tonumber(ARGV[i])
  redis.call('SET', key, string.format('%.6f', tat), 'PX', math.ceil((tat - now) * 1000) + 1000)
  ahead[i] = string.format('%.6f', tat - now)
end
return ahead
"""

# Takes one from each cell, or none. Returns the refusing cell (0: none) and the seconds to wait.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local tats, which, wait = {}, 0, 0
for i, key in ipairs(KEYS) do
  local interval, tolerance = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  tats[i] = math.max(tonumber(redis.call('GET', key) or '0'), now) + interval
  if tats[i] - now - tolerance > wait then
    which, wait = i, tats[i] - now - tolerance
  end
end
if which == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.6f', tats[i]), 'PX',
      math.ceil((tats[i] - now) * 1000) + 1000)
  end
end
return {which, string.format('%.6f', wait)}
"""


class Charge(NamedTuple):
    rate: Rate
    key: str
    """Key of the caller's state under this rate, also in Redis."""

    @classmethod
    def of(cls, rate: Rate, caller: str) -> Charge:
        return cls(rate, f"inference:rate:{rate.name}:{caller}")


class Limiter:
    """For one event loop. Before `start` it limits this process alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cells: dict[str, Cell] = {}
        self._add: Any = None
        self._take: Any = None
        self._task: asyncio.Task[None] | None = None
        self._tidy_at = 0.0

    def start(self, client: redis.asyncio.Redis) -> None:
        self._add = client.register_script(_ADD)
        self._take = client.register_script(_TAKE)
        self._task = asyncio.create_task(self._sync_forever(), name="rates")

    async def stop(self) -> None:
        # redis-py can swallow a cancellation that comes while it connects: ask until it heard.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.05)

    def take(self, charges: Iterable[Charge]) -> None:
        """Count a request under each limit. Raises TooManyRequests, and then counts nothing."""
        now = self._clock()
        cells = [self._cells.get(key) or self._new(rate, key) for rate, key in charges]
        for cell in cells:
            if (wait := cell.wait(now)) > 0:
                raise _refuse(cell.rate, wait)
        for cell in cells:
            cell.take(now)

    async def take_exactly(self, charges: Sequence[Charge]) -> None:
        """As `take`, but exact across gateways."""
        if not charges:
            return
        arguments = [part for rate, _ in charges for part in (rate.interval, rate.tolerance)]
        try:
            if self._take is None:
                raise ConnectionError("not started")
            keys = [key for _, key in charges]
            which, wait = await self._take(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            log.warning("limits hold for this gateway alone: Redis does not answer (%s)", error)
            self.take(charges)
            return
        if which:
            raise _refuse(charges[which - 1].rate, float(wait))

    def remembered(self) -> int:
        """Callers whose use is in memory."""
        return len(self._cells)

    def _new(self, rate: Rate, key: str) -> Cell:
        if len(self._cells) >= _MAX_CELLS:
            self._tidy()
        cell = self._cells[key] = Cell(key, rate)
        return cell

    async def _sync_forever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                await self.sync()
            except (RedisError, OSError) as error:
                log.warning("limits hold for this gateway alone: Redis does not answer (%s)", error)
                await asyncio.sleep(_AWAY_SECONDS)
            except Exception:
                log.exception("the limits of other gateways are not known")
                await asyncio.sleep(_AWAY_SECONDS)

    async def sync(self) -> None:
        """Raises RedisError, OSError."""
        if self._clock() > self._tidy_at:
            self._tidy()
        changed = [cell for cell in self._cells.values() if cell.unsent]
        for start in range(0, len(changed), _CHUNK):
            await self._exchange(changed[start : start + _CHUNK])

    async def _exchange(self, cells: Sequence[Cell]) -> None:
        taken = [cell.unsent * cell.interval for cell in cells]
        for cell in cells:
            cell.unsent = 0
        ahead = await self._add(keys=[cell.key for cell in cells], args=taken)
        now = self._clock()
        for cell, seconds in zip(cells, ahead, strict=True):
            # Redis may have lost state that this process still has.
            known = now + float(seconds) + cell.unsent * cell.interval
            cell.tat = max(cell.tat, known)

    def _tidy(self) -> None:
        """Drop cells without recent requests, and with too many callers the oldest ones."""
        now = self._clock()
        kept = {key: cell for key, cell in self._cells.items() if cell.tat > now or cell.unsent}
        if len(kept) >= _MAX_CELLS:
            kept = dict(list(kept.items())[_MAX_CELLS // 2 :])
        self._cells = kept
        self._tidy_at = now + _TIDY_SECONDS


def _refuse(rate: Rate, wait: float) -> TooManyRequests:
    metrics.THROTTLED.labels(rate.name).inc()
    return throttled(rate, wait)
