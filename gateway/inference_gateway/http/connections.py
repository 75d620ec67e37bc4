"""All open connections, and a time limit for each phase of a connection.

A connection is in one phase at a time. Each phase keeps its connections ordered by entry time, so
expired ones come first. One timer serves all connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from inference_gateway.http.callback_queue import CallbackQueue

_TICK_SECONDS = 0.5
_EXPIRE_AT_ONCE = 64
"""Thousands of connections may expire at the same moment."""
_CLOSE_AT_ONCE = 128
"""Each takes some 15 µs."""


class Phase(Enum):
    """A phase with a time limit. (The server's own work has no limit here.)"""

    IDLE = "idle"
    """No byte of the next request has arrived."""
    HEAD = "head"
    BODY = "body"
    WRITE = "write"
    """The client does not read its response."""


@dataclass(frozen=True)
class Limits:
    """Limits of one connection; `GatewaySettings` has the reasons."""

    max_header_bytes: int
    max_headers: int
    max_url_bytes: int
    seconds: Mapping[Phase, float]
    max_pipelined: int = 32
    """Requests that a client may pipeline."""


class Connection(Protocol):
    def expired(self, phase: Phase) -> None:
        """The connection was in this phase for too long, or must make room for another."""


class Connections:
    """The connections of a server. For its event loop only.

    Args:
        max_connections: at this number the connection that is idle longest is closed.
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
        self.callbacks = CallbackQueue()
        """For new requests, and for requests whose client disconnected."""
        self.closing = CallbackQueue(_CLOSE_AT_ONCE)

    def opened(self, connection: Connection) -> bool:
        """Whether the connection is accepted."""
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
        """Expire some connections that are past their limit. Returns whether more may be due."""
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
