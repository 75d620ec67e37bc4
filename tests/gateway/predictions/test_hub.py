from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio

from inference_contract import queues
from inference_gateway.hub import Hub
from inference_gateway.predictions.waiters import Heard

Eventually = Callable[..., Any]

KEY = "ada_echo"
ID = "01a20adf-4edc-7989-89d1-14c94848be7c"
JOB = {"id": ID, "attempt": 1, "token": "t"}


class Rows:
    """The database, as the hub sees it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, waiting: list[tuple[str, str]]) -> list[dict[str, Any]]:
        self._loop.call_soon_threadsafe(self.asked.set)
        return [r for r in self.rows if any(r["id"] == name for name, _ in waiting)]


@pytest.fixture
async def rows() -> Rows:
    return Rows()


@pytest.fixture
async def hub(redis_url: str, rows: Rows) -> AsyncIterator[Hub]:
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=5)
    hub = Hub(client, rows, recheck_seconds=0.1)
    await hub.start()
    yield hub
    await hub.stop()
    await client.aclose()


async def _end(waiter: Any, seconds: float = 10) -> Any:
    return await asyncio.wait_for(asyncio.shield(waiter.end), seconds)


async def test_an_event_right_after_the_first_wait_is_heard(
    hub: Hub, runner: Any, eventually: Eventually
) -> None:
    await eventually(lambda: hub._client_id)
    runner.say("succeeded", JOB, output="before")
    waiter = await hub.wait(KEY, ID, "t")
    runner.say("started", JOB)
    runner.say("succeeded", JOB, output="after")
    end = await _end(waiter)
    assert isinstance(end, Heard)
    assert end.event["output"] == "after"
    assert end.milliseconds > 1.7e12
    hub.leave(waiter)


async def test_a_model_that_is_waited_for_later_interrupts_the_read(
    hub: Hub, runner: Any, eventually: Eventually
) -> None:
    first = await hub.wait("ada_other", ID, "t")
    await eventually(lambda: hub._reading)
    began = asyncio.get_running_loop().time()
    second = await hub.wait(KEY, ID, "t")
    runner.say("canceled", JOB)
    await _end(second)
    assert asyncio.get_running_loop().time() - began < 0.5, "XREAD blocks for a whole second"
    hub.leave(first)
    hub.leave(second)


async def test_many_wait_for_one(hub: Hub, runner: Any) -> None:
    waiters = [await hub.wait(KEY, ID, "t") for _ in range(3)]
    runner.say("succeeded", JOB)
    for waiter in waiters:
        assert isinstance(await _end(waiter), Heard)
        hub.leave(waiter)
    assert not hub._waiters


async def test_a_lost_event_is_found_in_the_row(hub: Hub, rows: Rows) -> None:
    waiter = await hub.wait(KEY, ID, "t")
    rows.rows = [{"id": ID, "token": "t", "status": "succeeded"}]
    assert await _end(waiter) == rows.rows[0]
    hub.leave(waiter)


async def test_what_is_no_event_does_no_harm(hub: Hub, runner: Any) -> None:
    waiter = await hub.wait(KEY, ID, "t")
    for content in (b"{", b"[1]", b"{}", b'[{"type":"succeeded"}]'):
        runner.redis.xadd(queues.events_key(KEY), {"d": content})
    runner.redis.xadd(queues.events_key(KEY), {"x": b"y"})
    runner.say("succeeded", JOB)
    assert isinstance(await _end(waiter), Heard)
    hub.leave(waiter)


async def test_a_redis_that_forgot_everything(
    hub: Hub, runner: Any, eventually: Eventually
) -> None:
    waiter = await hub.wait(KEY, ID, "t")
    # Ids of the new stream are below those of the old, as after a fail-over to a slower clock.
    runner.redis.xadd(queues.events_key(KEY), {"d": b"[]"}, id="99999999999999-1")
    stream = hub._streams[queues.events_key(KEY)]
    await eventually(lambda: stream.position == b"99999999999999-1")
    runner.redis.flushall()
    runner.say("succeeded", JOB)
    runner.redis.client_kill_filter(_type="normal", skipme=True)
    assert isinstance(await _end(waiter), Heard)
    hub.leave(waiter)


async def test_stopping_lets_everybody_go(hub: Hub) -> None:
    waiter = await hub.wait(KEY, ID, "t")
    hub.release()
    assert await _end(waiter) is None
    hub.leave(waiter)


async def test_a_watcher_gets_the_entries_of_its_stream(hub: Hub, runner: Any) -> None:
    watcher = await hub.watch(KEY, ID, "t")
    assert watcher.take() is None, "what came before is to be read from the stream"
    runner.stream(JOB, 1, "output", output="a")
    assert await watcher.news(5)
    entries = watcher.take()
    assert entries is not None
    assert [entry.id for entry in entries] == [b"1-1"]
    assert not await watcher.news(0.01)
    hub.leave(watcher)
    assert queues.stream_key(KEY, ID) not in hub._streams
