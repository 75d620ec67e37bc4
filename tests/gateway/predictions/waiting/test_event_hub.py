from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import redis.asyncio

from inference_contract import queues
from inference_gateway.http.callback_queue import CallbackQueue
from inference_gateway.lifecycle import ends
from inference_gateway.predictions.streaming import tails as tails_module
from inference_gateway.predictions.streaming.tails import Tails
from inference_gateway.predictions.waiting import event_hub as hub
from inference_gateway.predictions.waiting.event_hub import EventHub
from inference_gateway.predictions.waiting.waiters import Ended, StreamEntry, StreamWaiter, Waiter

Eventually = Callable[..., Any]

KEY = "ada_echo"
ID = "01a20adf-4edc-7989-89d1-14c94848be7c"
JOB = {"id": ID, "attempt": 1, "token": "t"}
END = {
    "status": "succeeded",
    "output": "HI",
    "started_at": None,
    "completed_at": "2026-11-27T08:00:00.5+00:00",
}


class Rows:
    """The database, as the hub sees it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __call__(self, waiting: list[str]) -> list[Any]:
        return [row for row in self.rows if row["id"] in waiting]


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=5)
    yield client
    await client.aclose()


@pytest.fixture
async def hub_(client: redis.asyncio.Redis, rows: Rows) -> AsyncIterator[EventHub]:
    made = EventHub(client, rows, recheck_seconds=0.1)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def tails(client: redis.asyncio.Redis) -> AsyncIterator[Tails]:
    made = Tails(client)
    await made.start()
    yield made
    await made.stop()


async def _wait(hub: EventHub) -> Waiter:
    waiter = Waiter(ID)
    await hub.add(waiter)
    return waiter


async def _end(waiter: Waiter, seconds: float = 10) -> Any:
    return await asyncio.wait_for(asyncio.shield(waiter.end), seconds)


def _announce(runner: Any, columns: Any) -> None:
    ends.announce(runner.redis, orjson.dumps({ID: columns, "other": None}))


def _is_read(runner: Any) -> bool:
    """Whether an XREAD of streams waits in Redis."""
    clients = runner.redis.client_list()
    return any(client["cmd"] == "xread" and "b" in client["flags"] for client in clients)


async def test_what_is_said_right_after_the_first_wait_is_heard(
    hub_: EventHub, runner: Any
) -> None:
    waiter = await _wait(hub_)
    _announce(runner, END)
    end = await _end(waiter)
    assert (end.columns["status"], end.columns["output"]) == ("succeeded", "HI")
    assert end.columns["completed_at"].microsecond == 500_000
    hub_.leave(waiter)


async def test_many_wait_for_one(hub_: EventHub, runner: Any) -> None:
    waiters = [await _wait(hub_) for _ in range(3)]
    _announce(runner, END)
    for waiter in waiters:
        assert isinstance(await _end(waiter), Ended)
        hub_.leave(waiter)
    assert hub_.waited_for() == 0


async def test_an_end_that_is_not_told_is_read_from_its_row(
    hub_: EventHub, rows: Rows, runner: Any
) -> None:
    hub_.recheck_seconds = 60
    waiter = await _wait(hub_)
    rows.rows = [{"id": ID, "status": "failed"}]
    _announce(runner, None)
    assert (await _end(waiter)).columns == rows.rows[0]
    hub_.leave(waiter)


async def test_a_lost_message_is_found_in_the_row(hub_: EventHub, rows: Rows) -> None:
    waiter = await _wait(hub_)
    rows.rows = [{"id": ID, "status": "succeeded"}]
    assert (await _end(waiter)).columns == rows.rows[0]
    hub_.leave(waiter)


async def test_what_ended_while_the_connection_was_cut_is_read_at_once(
    hub_: EventHub, rows: Rows, runner: Any
) -> None:
    hub_.recheck_seconds = 60
    waiter = await _wait(hub_)
    rows.rows = [{"id": ID, "status": "succeeded"}]
    runner.redis.client_kill_filter(_type="pubsub")
    assert (await _end(waiter)).columns == rows.rows[0]
    hub_.leave(waiter)


async def test_nothing_that_a_runner_can_write_ends_a_wait(hub_: EventHub, runner: Any) -> None:
    waiter = await _wait(hub_)
    runner.send("succeeded", JOB, output="forged")
    with pytest.raises(TimeoutError):
        await _end(waiter, 0.3)
    hub_.leave(waiter)


async def test_what_is_no_message_does_no_harm(hub_: EventHub, runner: Any) -> None:
    waiter = await _wait(hub_)
    for content in (b"{", b"[1]", b"7", orjson.dumps({ID: 7}), orjson.dumps({ID: {}})):
        ends.announce(runner.redis, content)
    hub_.recheck_seconds = 60
    for _ in range(200):
        _announce(runner, END)
        if waiter.end.done():
            break
        await asyncio.sleep(0.05)
    assert isinstance(await _end(waiter), Ended)
    hub_.leave(waiter)


async def test_nobody_listens_when_nobody_has_waited_for_a_while(
    hub_: EventHub, runner: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that the recorder knows that it may take its time."""
    monkeypatch.setattr(hub, "_KEEP_SECONDS", 0)
    monkeypatch.setattr(hub, "_POLL_SECONDS", 0.01)
    hub_.leave(await _wait(hub_))
    await eventually(lambda: ends.announce(runner.redis, b"{}") == 0)
    waiter = await _wait(hub_)
    assert ends.announce(runner.redis, orjson.dumps({ID: END})) == 1
    assert isinstance(await _end(waiter), Ended)
    hub_.leave(waiter)


async def test_stopping_lets_everybody_go(hub_: EventHub) -> None:
    waiter = await _wait(hub_)
    hub_.release()
    assert await _end(waiter) is None
    hub_.leave(waiter)


async def test_a_watcher_gets_the_entries_of_its_stream(tails: Tails, runner: Any) -> None:
    watcher = StreamWaiter(KEY, ID)
    await tails.add(watcher)
    assert watcher.take() is None, "what came before is to be read from the stream"
    runner.stream(JOB, 1, "output", output="a")
    assert await watcher.news(5)
    entries = watcher.take()
    assert entries is not None
    assert [entry.id for entry in entries] == [b"1-1"]
    assert not await watcher.news(0.01)
    tails.leave(watcher)
    assert tails.followed() == 0


async def test_a_stream_that_is_followed_later_interrupts_the_read(
    tails: Tails, runner: Any, eventually: Eventually
) -> None:
    first, second = StreamWaiter("ada_other", ID), StreamWaiter(KEY, ID)
    await tails.add(first)
    await eventually(lambda: _is_read(runner))
    began = asyncio.get_running_loop().time()
    await tails.add(second)
    second.take()
    runner.stream(JOB, 1, "output", output="a")
    assert await second.news(5)
    assert asyncio.get_running_loop().time() - began < 0.8, "XREAD blocks for a whole second"
    tails.leave(first)
    tails.leave(second)


async def test_a_stream_in_a_redis_that_forgot_everything(
    tails: Tails, runner: Any, eventually: Eventually
) -> None:
    watcher = StreamWaiter(KEY, ID)
    await tails.add(watcher)
    watcher.take()
    runner.stream(JOB, 9, "output", output="a")
    await watcher.news(5)
    watcher.take()
    runner.redis.flushall()
    runner.stream(JOB, 2, "output", output="b")
    runner.redis.client_kill_filter(_type="normal", skipme=True)
    assert await watcher.news(5)
    assert [entry.id for entry in watcher.take() or ()] == [b"1-2"]
    tails.leave(watcher)


async def test_a_key_that_is_no_stream_stops_no_other(tails: Tails, runner: Any) -> None:
    odd, other = StreamWaiter("bob_odd", ID), StreamWaiter(KEY, ID)
    runner.redis.set(queues.stream_key("bob_odd", ID), "no stream")
    await tails.add(odd)
    await tails.add(other)
    other.take()
    runner.stream(JOB, 1, "output", output="a")
    assert await other.news(10)
    assert [entry.id for entry in other.take() or ()] == [b"1-1"]
    tails.leave(odd)
    tails.leave(other)


async def test_streams_that_come_together_interrupt_the_read_together(
    tails: Tails,
    client: redis.asyncio.Redis,
    runner: Any,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, *others = [StreamWaiter(f"ada_{number}", ID) for number in range(101)]
    await tails.add(first)
    await eventually(lambda: _is_read(runner))
    interruptions = 0
    unblock = client.client_unblock

    async def counted(client_id: int) -> Any:
        nonlocal interruptions
        interruptions += 1
        return await unblock(client_id)

    monkeypatch.setattr(client, "client_unblock", counted)
    monkeypatch.setattr(tails_module, "_GATHER_SECONDS", 0.2)
    await asyncio.gather(*map(tails.add, others))
    for watcher in others:
        watcher.take()
    runner.redis.xadd(queues.stream_key("ada_100", ID), {"d": b"{}"}, id="1-1")
    assert await others[-1].news(5)
    assert interruptions <= 3
    for watcher in (first, *others):
        tails.leave(watcher)


async def test_of_thousands_who_read_a_stream_some_go_on_in_a_turn() -> None:
    callbacks = CallbackQueue(most=10)
    watchers = [StreamWaiter(KEY, ID, callbacks=callbacks) for _ in range(35)]
    waiting = [asyncio.create_task(watcher.news(5)) for watcher in watchers]
    await asyncio.sleep(0)
    for watcher in watchers:
        watcher.push([StreamEntry(b"1-1", b"{}")])
        watcher.push([StreamEntry(b"1-2", b"{}")])
    told = []
    while not all(task.done() for task in waiting):
        told.append(sum(task.done() for task in waiting))
        await asyncio.sleep(0)
    assert [count for count in told if count] == [10, 20, 30]
    assert all(await asyncio.gather(*waiting))
