"""The old primary of Redis lives on as a replica and keeps its clients: they go to the new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from failover import Failover

from inference_contract import queues
from inference_gateway.predictions.waiting.event_hub import end_tasks
from inference_gateway.redis.clients import NotPrimary, asynchronous, blocking
from inference_gateway.redis.replies import Line, Pipe, ask, each
from inference_gateway.settings import GatewaySettings


@pytest.fixture
def ours(failover: Failover) -> Iterator[redis.Redis]:
    with blocking(failover.url) as made:
        yield made


@pytest.fixture
async def ours_async(failover: Failover) -> AsyncIterator[redis.asyncio.Redis]:
    async with asynchronous(failover.url) as made:
        yield made


def _in_a_pipeline(client: redis.Redis) -> Callable[[], object]:
    def write() -> object:
        with client.pipeline(transaction=False) as pipe:
            pipe.get("a")
            pipe.set("a", "1")
            return each(pipe)

    return write


def _in_a_transaction(client: redis.Redis) -> Callable[[], object]:
    def write() -> object:
        with client.pipeline() as pipe:
            pipe.set("a", "1")
            return pipe.execute()

    return write


def _in_a_function(client: redis.Redis) -> Callable[[], object]:
    script = client.register_script("return redis.call('SET', KEYS[1], '1')")
    return lambda: script(keys=["a"])


def _on_a_line(client: redis.Redis) -> Callable[[], object]:
    line = Line(client)
    return lambda: line.ask([("GET", "a"), ("SET", "a", "1")])


@pytest.mark.parametrize(
    "way",
    [
        lambda client: lambda: client.set("a", "1"),
        lambda client: lambda: ask(client, [("SET", "a", "1")]),
        _in_a_pipeline,
        _in_a_transaction,
        _in_a_function,
        _on_a_line,
    ],
    ids=["command", "ask", "pipeline", "transaction", "script", "line"],
)
def test_a_write_goes_to_the_new_primary(
    failover: Failover, ours: redis.Redis, way: Callable[[redis.Redis], Callable[[], object]]
) -> None:
    write = way(ours)
    write()
    failover.demote()
    failover.promote()
    write()
    assert failover.new.get("a") == b"1"


def test_what_may_not_be_done_twice_is_refused_once(failover: Failover, ours: redis.Redis) -> None:
    line = Line(ours)
    line.ask([("INCR", "a")], again=False)
    failover.demote()
    failover.promote()
    with pytest.raises(redis.ConnectionError, match="READONLY"):
        line.ask([("INCR", "a")], again=False)
    line.ask([("INCR", "a")], again=False)
    assert failover.new.get("a") == b"1"


def test_as_long_as_the_address_leads_to_a_replica_it_is_said_at_once(
    failover: Failover, ours: redis.Redis
) -> None:
    ours.set("a", "1")
    failover.demote()
    for _ in range(2):
        with pytest.raises(NotPrimary):
            ours.set("a", "2")
    failover.promote()
    ours.set("a", "3")
    assert failover.new.get("a") == b"3"


def test_who_only_reads_follows_who_writes(failover: Failover, ours: redis.Redis) -> None:
    pool = ours.connection_pool
    reader = Line(ours)
    connections = [pool.get_connection() for _ in range(3)]
    for connection in connections:
        pool.release(connection)
    reader.ask([("GET", "a")])
    failover.demote()
    failover.promote()
    ours.set("a", "1")
    taken = [pool.get_connection() for _ in range(3)]
    for connection in taken:
        connection.send_command("GET", "a")
        assert connection.read_response() == b"1"
        pool.release(connection)
    assert reader.ask([("GET", "a")]) == [b"1"]


def test_a_replica_that_refuses_reads_is_left_by_a_read(
    failover: Failover, ours: redis.Redis
) -> None:
    failover.new.set("a", "1")
    failover.old.config_set("replica-serve-stale-data", "no")
    ours.get("a")
    failover.demote()
    failover.promote()
    assert ours.get("a") == b"1"  # MASTERDOWN, and then from the new primary.


async def test_so_do_those_of_an_event_loop(
    failover: Failover, ours_async: redis.asyncio.Redis, wait_until: Callable[..., Any]
) -> None:
    def blocked(server: redis.Redis) -> Any:
        return asyncio.to_thread(wait_until, lambda: server.info("clients")["blocked_clients"])

    pipe = Pipe(ours_async, 2.0)
    await pipe.ask([("SET", "a", "1")])
    await ours_async.get("a")
    async with ours_async.client() as idle, ours_async.pubsub() as channel:
        await idle.get("a")
        await channel.subscribe("ends")
        waiting = asyncio.ensure_future(ours_async.xread({"stream": "$"}, block=60_000))
        await blocked(failover.old)
        failover.demote()
        failover.promote()
        await pipe.ask([("SET", "a", "2")])
        assert failover.new.get("a") == b"2"
        assert await ours_async.get("a") == b"2"
        assert await idle.get("a") == b"2"
        heard = None
        while heard is None:
            failover.new.publish("ends", "x")
            with suppress(redis.RedisError):
                heard = await channel.get_message(ignore_subscribe_messages=True, timeout=0.1)
        await blocked(failover.new)
        await end_tasks([waiting])
    await pipe.close()


class TestGateway:
    @pytest.fixture
    def settings(self, settings: GatewaySettings, failover: Failover) -> GatewaySettings:
        return settings.model_copy(update={"redis_url": failover.url})

    async def test_predictions_go_to_the_new_primary_and_health_says_what_is_so(
        self,
        client: httpx.AsyncClient,
        failover: Failover,
        auth: Callable[..., dict[str, str]],
        make_model: Callable[..., Any],
        wait_until: Callable[..., Any],
    ) -> None:
        make_model("ada", "m")
        body = {"model": "ada/m", "input": {"prompt": "x"}}

        async def create() -> int:
            answer = await client.post("/v1/predictions", json=body, headers=auth("ada"))
            return answer.status_code

        async def redis_is(status: str) -> str:
            while True:
                part = (await client.get("/health")).json()["dependencies"]["redis"]
                if part["status"] == status:
                    return str(part["message"])
                await asyncio.sleep(0.05)

        queue = queues.queue_key(queues.model_key("ada/m"))
        assert await create() == 201
        await asyncio.to_thread(wait_until, lambda: failover.old.llen(queue) == 1)
        await redis_is("ok")
        failover.demote()
        assert "leads to a replica" in await redis_is("degraded")
        assert await create() == 201, "it is stored, and the relay enqueues it"
        failover.promote()
        await redis_is("ok")
        while not failover.new.llen(queue):
            assert await create() == 201
            await asyncio.sleep(0.1)
