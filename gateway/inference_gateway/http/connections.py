"""Which connections there are, and how long each may take for what it does.

A connection is in one phase at a time, and the phases are ordered by time: whatever has been in its
phase for too long stands first. One timer serves all connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from inference_gateway.http.turns import Turns

_TICK_SECONDS = 0.5
_EXPIRE_AT_ONCE = 64
"""Thousands that came together are also late together."""
_CLOSE_AT_ONCE = 128
"""Each takes some 15 µs."""


class Phase(Enum):
    """What a connection is waited for with a limit. (The server's own work has none here.)"""

    IDLE = "idle"
    """No byte of a request has come."""
    HEAD = "head"
    BODY = "body"
    WRITE = "write"
    """The client does not read what it is sent."""


@dataclass(frozen=True)
class Limits:
    """What one connection may cost; `Settings` has the reasons."""

    max_header_bytes: int
    max_headers: int
    max_url_bytes: int
    seconds: Mapping[Phase, float]
    max_pipelined: int = 32
    """Requests that a client may send ahead of their answers."""


class Connection(Protocol):
    def expired(self, phase: Phase) -> None:
        """It was in this phase for too long, or another connection needs its place."""


class Connections:
    """The connections of a server. Everything belongs on its event loop.

    Args:
        max_connections: beyond it the one that has been idle longest makes room.
    """

    def __init__(
        self,
        max_connections: int,
        seconds: Mapping[Phase, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max = max_connections
        self._seconds = seconds
        self._clock = clock
        self._count = 0
        self._since: dict[Phase, dict[Connection, float]] = {phase: {} for phase in Phase}
        self._idle = self._since[Phase.IDLE]
        self._timer: asyncio.Handle | None = None
        self.turns = Turns()
        """Of requests that begin, and of those whose clients are gone."""
        self.leaving = Turns(_CLOSE_AT_ONCE)

    def opened(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        if self._count >= self._max and not self._make_room():
            return False
        self._count += 1
        self._idle[connection] = self._clock()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)
        return True

    def closed(self, connection: Connection) -> None:
        self._count -= 1
        for connections in self._since.values():
            connections.pop(connection, None)

    def enter(self, connection: Connection, phase: Phase) -> None:
        self._since[phase].setdefault(connection, self._clock())

    def leave(self, connection: Connection, phase: Phase) -> None:
        self._since[phase].pop(connection, None)

    def expire(self) -> bool:
        """Tell those that have been in their phase for too long, some at once; whether there may
        be more."""
        now, told = self._clock(), 0
        for phase, connections in self._since.items():
            until = now - self._seconds[phase]
            while connections:
                first = next(iter(connections))
                if connections[first] > until:
                    break
                if told == _EXPIRE_AT_ONCE:
                    return True
                told += 1
                del connections[first]
                first.expired(phase)
        return False

    def _make_room(self) -> bool:
        for phase in (Phase.IDLE, Phase.HEAD):
            if connections := self._since[phase]:
                first = next(iter(connections))
                del connections[first]
                first.expired(Phase.IDLE)
                return True
        return False

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if self.expire():
            self._timer = loop.call_soon(self._tick)
        else:
            self._timer = loop.call_later(_TICK_SECONDS, self._tick) if self._count > 0 else None
