"""Replies leave in one piece; what a connection costs before and after its requests."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from inference_gateway.http.connections import Connections, Limits, Phase
from inference_gateway.http.uvicorn_protocol import BoundedProtocol, _Gathering


class Transport:
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.asked: list[str] = []

    def get_extra_info(self, name: str) -> tuple[str, int, int, int]:
        self.asked.append(name)
        return ("::1", 80, 0, 0)

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


async def test_what_one_turn_writes_leaves_together() -> None:
    transport = Transport()
    gathering: Any = _Gathering(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
    gathering.write(b"head ")
    gathering.write(b"body")
    assert transport.calls == []
    await asyncio.sleep(0)
    gathering.write(b"next")
    await asyncio.sleep(0)
    assert transport.calls == [b"head body", b"next"]


async def test_what_is_held_leaves_before_the_end() -> None:
    transport = Transport()
    gathering: Any = _Gathering(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
    gathering.write(b"last words")
    gathering.close()
    await asyncio.sleep(0)
    assert transport.calls == [b"last words", "close"]
    assert gathering.is_closing()


@pytest.fixture
async def first() -> BoundedProtocol:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    config = uvicorn.Config(app, ws="none", log_config=None)
    limits = Limits(1000, 10, 100, dict.fromkeys(Phase, 60.0))
    pool = Connections(1000, limits.seconds)
    made = {"config": config, "server_state": ServerState(), "app_state": {}}
    return BoundedProtocol(pool, limits, **made)


def _connect(first: BoundedProtocol) -> tuple[BoundedProtocol, Transport]:
    one, transport = first.another(), Transport()
    one.connection_made(transport)  # type: ignore[arg-type]
    return one, transport


async def test_a_connection_that_says_nothing_has_neither_parser_nor_addresses(
    first: BoundedProtocol,
) -> None:
    one, transport = _connect(first)
    found: tuple[object, ...] = one.parser, one.flow, transport.asked
    assert found == (None, None, [])


async def test_half_a_head_is_not_worth_an_address(first: BoundedProtocol) -> None:
    one, transport = _connect(first)
    one.data_received(b"GET / HTTP/1.1\r\nHost:")
    found: tuple[object, ...] = one.flow, transport.asked
    assert found == (None, [])
    one.data_received(b" a\r\n\r\n")
    assert one.scope["client"] == ("::1", 80)
    assert one.scope["server"] == ("::1", 80)


async def test_connections_share_nothing_that_one_of_them_changes(first: BoundedProtocol) -> None:
    one, other = first.another(), first.another()
    shared = [name for name, value in vars(one).items() if value is vars(other)[name]]
    changeable = {name for name in shared if isinstance(vars(one)[name], dict | list | set | deque)}
    assert changeable == {"connections", "tasks", "app_state"}  # All are the server's.


async def test_thousands_who_leave_at_once_are_closed_in_several_turns(
    first: BoundedProtocol,
) -> None:
    made = [_connect(first) for _ in range(500)]
    closed: list[int] = []
    for one, _ in made:
        assert one.eof_received()  # Else the loop would close it in this turn.
    while not closed or closed[-1] < 500:
        closed.append(sum(transport.is_closing() for _, transport in made))
        await asyncio.sleep(0)
    assert closed[0] < 200
    assert len(closed) < 10


async def test_whoever_leaves_within_a_body_is_closed_at_once(first: BoundedProtocol) -> None:
    one, transport = _connect(first)
    one.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
    one.eof_received()
    assert transport.calls == ["close"]
    one.connection_lost(None)
    await asyncio.sleep(0)
