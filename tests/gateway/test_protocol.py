"""Replies leave in one piece."""

from __future__ import annotations

import asyncio
from typing import Any

from inference_gateway.protocol import _Gathering


class Transport:
    def __init__(self) -> None:
        self.calls: list[Any] = []

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
