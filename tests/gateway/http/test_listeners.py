"""How connections are taken: many at once, and again after files were short."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from inference_gateway.http import listeners
from inference_gateway.http.listeners import Acceptor, listen

Connect = Callable[[], socket.socket]


class Scarce:
    """A listener for which there may be no file."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.lacks_files = False

    def accept(self) -> Any:
        if self.lacks_files:
            raise OSError(errno.EMFILE, "no file is left")
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@pytest.fixture
def listener() -> Iterator[Scarce]:
    (first, *others) = listen("127.0.0.1", 0)
    for other in others:
        other.close()
    yield Scarce(first)
    first.close()


@pytest.fixture
async def made(listener: Any) -> Any:
    """The protocols that were made of connections."""
    made: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    acceptor = Acceptor(listener, make)
    yield made
    acceptor.close()


@pytest.fixture
def connect(listener: Scarce) -> Iterator[Connect]:
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(listener.getsockname()))


async def test_many_who_connect_together_are_taken_in_few_turns(
    made: list[Any], connect: Connect
) -> None:
    for _ in range(150):
        connect()
    turns = 0
    while len(made) < 150:
        await asyncio.sleep(0)
        turns += 1
    assert turns < 20


async def test_a_turn_takes_a_share_of_a_thousand(made: list[Any], connect: Connect) -> None:
    for _ in range(1000):
        connect()
    steps, before = [], 0
    while before < 1000:
        await asyncio.sleep(0)
        steps.append(len(made) - before)
        before = len(made)
    assert max(steps) <= 256
    assert len(steps) < 20


async def test_without_files_it_waits_and_goes_on(
    made: list[Any],
    listener: Scarce,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> None:
    monkeypatch.setattr(listeners, "_PAUSE_SECONDS", 0.01)
    listener.lacks_files = True
    connect()
    await wait_for(lambda: "no file is left" in caplog.text)
    assert made == []
    listener.lacks_files = False
    await wait_for(lambda: made)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    async def poll(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)

    return poll
