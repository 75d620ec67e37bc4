"""Runners say through Redis that they live: while they could not, their silence says nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from inference_contract import functions
from inference_gateway.dispatch.recovery.losses import Losses
from inference_gateway.redis.replies import ask

_EVENTS, _IN_FLIGHT = "inference:grace:events", "inference:grace:wip"
_MEMBER = "probe"
_GAP = 1 / 4
"""Of a lease. A runner renews after a third of it, and again soon after it was refused: a gap that
is no longer than this ends no lease."""
_FORGOTTEN = 3
"""Leases. What ran when Redis lost its memory is noticed as silent after one, and that rests on a
whole lease without a gap, and on the sweeper, which comes now and then."""
_ASK = 1 / 10
"""Of a lease: so often Redis is asked, and at least every second."""

# What runners must do to keep a lease: an event, and the function that renews it. So it is refused
# where theirs are: memory or disk full, a replica, a script that runs, functions that are lost.
_PROBE: tuple[tuple[Any, ...], ...] = (
    ("XADD", _EVENTS, "MAXLEN", "1", "*", "d", ""),
    ("ZADD", _IN_FLIGHT, "0", _MEMBER),
    ("FCALL", functions.RENEW, "0", _IN_FLIGHT, "1000", _MEMBER),
    ("TIME",),
)


class Sign(NamedTuple):
    """Redis has taken writes."""

    at: float
    """By our clock, when its answer came."""
    redis: float
    """By its own, which leases go by: it may be set forward, or stand still with its machine."""


class Stretch(NamedTuple):
    """Signs without a gap between them: what lived could say so."""

    since: float
    last: Sign

    def on(self, sign: Sign, gap: float) -> Stretch:
        """With one more sign; from there on anew, if the last is too long ago by either clock."""
        if max(sign.at - self.last.at, sign.redis - self.last.redis) > gap:
            return Stretch(sign.at, sign)
        return Stretch(self.since, sign)

    def covers(self, since: float, now: float, gap: float) -> bool:
        return self.since <= since and now - self.last.at <= gap


class OutageGrace:
    """Whether a runner whose lease has ended counts as dead. `step` is a loop of its own; any
    thread may ask.

    Redis must have taken writes all through a lease. A gap (it refuses them, or is away; it, we or
    the network stood still; we have just been started) makes that lease begin anew.

    Args:
        client: of its own, for its connections are closed: a runner may need a new one, too.
        lease: seconds.
    """

    def __init__(
        self, client: redis.Redis, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = client
        self._lease = lease
        self._gap = lease * _GAP
        self._clock = clock
        self._stretch: Stretch | None = None
        self._losses = Losses(client)
        self._lost_at = -math.inf

    def now(self) -> float:
        """To be taken before a look."""
        return self._clock()

    def active(self, began: float) -> bool:
        """Whether nobody counts as dead by a look that began then. To be called after it."""
        stretch = self._stretch
        return stretch is None or not stretch.covers(began - self._lease, self._clock(), self._gap)

    def ends_may_be_lost(self) -> bool:
        """Whether Redis has just lost what it was told: who is silent since may have said its end.
        Its work is to be done again, and nobody has died of it."""
        return self._clock() - self._lost_at < _FORGOTTEN * self._lease

    def step(self) -> float:
        """Ask Redis. Raises redis.RedisError; nobody counts as dead then."""
        try:
            *_, (seconds, microseconds) = ask(self._redis, _PROBE)
            if self._losses.seen():
                self._lost_at = self._clock()
        except redis.RedisError:
            self._stretch = None
            raise
        finally:
            self._redis.connection_pool.disconnect()
        sign = Sign(self._clock(), int(seconds) + int(microseconds) / 1e6)
        stretch = self._stretch
        self._stretch = stretch.on(sign, self._gap) if stretch else Stretch(sign.at, sign)
        return min(self._lease * _ASK, 1.0)
