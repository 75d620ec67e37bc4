"""Work on threads: callers take turns, and nobody waits without an end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from inference_gateway.background.lanes import Lane
from inference_gateway.errors import TooManyRequests, Unavailable


async def test_one_who_has_much_waits_behind_one_who_has_little() -> None:
    lane, gate, done = Lane("hashing"), threading.Event(), list[str]()
    first = asyncio.create_task(lane.run("many", gate.wait))
    await asyncio.sleep(0)
    jobs = [asyncio.create_task(lane.run("many", done.append, "many")) for _ in range(5)]
    await asyncio.sleep(0)
    jobs.append(asyncio.create_task(lane.run("one", done.append, "one")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *jobs)
    assert done.index("one") <= 1
    lane.close()


async def test_what_waits_is_bounded_for_each_and_for_all() -> None:
    lane, gate = Lane("hashing", most_waiting=3, most_of_one=2), threading.Event()
    jobs = [asyncio.create_task(lane.run("many", gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await lane.run("many", gate.wait)
    jobs.append(asyncio.create_task(lane.run("one", gate.wait)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await lane.run("other", gate.wait)
    gate.set()
    await asyncio.gather(*jobs)
    lane.close()


async def test_one_who_goes_away_keeps_no_thread() -> None:
    lane, gate = Lane("hashing"), threading.Event()
    first = asyncio.create_task(lane.run("a", gate.wait))
    second = asyncio.create_task(lane.run("b", gate.wait))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    gate.set()
    assert await lane.run("c", int, "7") == 7
    lane.close()
