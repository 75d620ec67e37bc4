"""Grace after an outage of Redis: runners renew leases through Redis, so an expired lease means
nothing while they could not."""

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
"""Share of a lease. A runner renews after a third of it, and soon again after a refusal: a shorter
gap does not end a lease."""
_FORGOTTEN = 3
"""Leases after which a loss of Redis' data no longer matters. A runner that was running then is
noticed as silent after one lease; before that a whole lease without a gap is needed, and a round of
the sweeper."""
_ASK = 1 / 10
"""Share of a lease between two probes of Redis; at most a second."""

# The commands by which runners keep a lease: an event, and the function that renews it. The probe
# is refused when theirs are: memory or disk full, a replica, a running script, lost functions.
_PROBE: tuple[tuple[Any, ...], ...] = (
    ("XADD", _EVENTS, "MAXLEN", "1", "*", "d", ""),
    ("ZADD", _IN_FLIGHT, "0", _MEMBER),
    ("FCALL", functions.RENEW, "0", _IN_FLIGHT, "1000", _MEMBER),
    ("TIME",),
)


class Sign(NamedTuple):
    """A successful probe: Redis accepted writes."""

    at: float
    """When the reply came, by our clock."""
    redis: float
    """Redis' time, which leases use. The clock may jump forward, or stop with its machine."""


class Stretch(NamedTuple):
    """Successful probes without a gap: live runners could renew their leases."""

    since: float
    last: Sign

    def on(self, sign: Sign, gap: float) -> Stretch:
        """Extend by a probe; start over if the last one is too long ago by either clock."""
        if max(sign.at - self.last.at, sign.redis - self.last.redis) > gap:
            return Stretch(sign.at, sign)
        return Stretch(self.since, sign)

    def covers(self, since: float, now: float, gap: float) -> bool:
        return self.since <= since and now - self.last.at <= gap


class OutageGrace:
    """Whether a runner with an expired lease counts as dead. `step` runs in a loop of its own; the
    other methods are thread-safe.

    It counts as dead only if Redis has accepted writes for a whole lease. The time starts over
    after a gap: Redis refused writes or did not answer, a process or the network was suspended, or
    this process has just started.

    Args:
        client: used by this object only. Its connections are closed after each probe, as runners
            may need new ones too.
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
        """The time to pass to `active`; take it before reading leases."""
        return self._clock()

    def active(self, began: float) -> bool:
        """Whether expired leases in a read that began at that time mean nothing. Call it after the
        read."""
        stretch = self._stretch
        return stretch is None or not stretch.covers(began - self._lease, self._clock(), self._gap)

    def ends_may_be_lost(self) -> bool:
        """Whether Redis has just lost data: a silent runner may have sent its end, which was lost.
        The work is handed out again without counting a crash."""
        return self._clock() - self._lost_at < _FORGOTTEN * self._lease

    def step(self) -> float:
        """Probe Redis. Raises redis.RedisError; then no runner counts as dead."""
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
