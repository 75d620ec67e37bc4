"""A runner made by hand: it takes jobs and says events through the keys of the contract."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import orjson
import psycopg2
import pytest
import redis
from narrow import decoded
from psycopg2.extras import RealDictCursor

from inference_contract import queues
from inference_contract.predictions import Job
from inference_gateway.dispatch.loops import Loop
from inference_gateway.dispatch.recording.apply_changes import prepare
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.postgres import db
from inference_gateway.predictions.creating.enqueuer import Enqueuer
from inference_gateway.redis import clients
from inference_gateway.settings import GatewaySettings

MODEL = "ada/echo"
KEY = "ada_echo"


class Runner:
    """Runs ada/echo, one step at a time."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def waiting(self) -> list[Job]:
        names = [decoded(name) for name in self.redis.lrange(queues.queue_key(KEY), 0, -1)]
        data = [self.redis.hget(queues.job_key(name), "data") for name in names]
        return [orjson.loads(content or "")[2][0] for content in data]

    def send(self, type: str, job: dict[str, Any], **fields: Any) -> None:
        """An event in the model's stream."""
        event = {"type": type, **{key: job[key] for key in ("id", "attempt", "token")}, **fields}
        self.redis.xadd(queues.events_key(KEY), {"d": orjson.dumps([event])})

    def stream(self, job: dict[str, Any], number: int, type: str, **fields: Any) -> None:
        """An entry of the prediction's own stream."""
        key = queues.stream_key(KEY, job["id"])
        content = orjson.dumps({"type": type, **fields})
        self.redis.xadd(key, {"d": content}, id=f"{job['attempt']}-{number}")


@pytest.fixture
def runner(redis_client: redis.Redis) -> Runner:
    return Runner(redis_client)


@pytest.fixture
async def enqueuer(redis_url: str, redis_client: redis.Redis) -> AsyncIterator[Enqueuer]:
    with ThreadPoolExecutor(4) as threads:
        async with clients.asynchronous(redis_url) as client:
            made = Enqueuer(redis_client, client, threads)
            yield made
            await made.close()


@pytest.fixture
def recorder(settings: GatewaySettings, redis_client: redis.Redis) -> Iterator[Loop]:
    """Records what runners say."""
    engine = prepare(db.engine(settings, pool_size=2))
    recorder = Recorder(
        engine, redis_client, lease_seconds=30, consumer="one", told=threading.Event()
    )
    loop = Loop("recorder", recorder.step)
    loop.start()
    yield loop
    loop.stop()
    loop.join(10)
    engine.dispose()


@pytest.fixture
def echo(make_model: Any) -> str:
    """A custom model `ada/echo` that takes a text; its id."""
    make_model(
        "ada",
        "echo",
        type="custom",
        source={"path": "/models/echo"},
        engine={"class_name": "echo:Echo"},
        input_schema={"text": {"type": "string"}, "times": {"type": "integer", "default": 1}},
    )
    return MODEL


@pytest.fixture
def sql(settings: GatewaySettings) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Runs a statement; the rows, if it gives some."""
    with closing(psycopg2.connect(settings.database_url)) as connection:
        connection.autocommit = True

        def run(statement: str, *args: Any) -> list[dict[str, Any]]:
            with connection.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(statement, args or None)
                return [dict(row) for row in cursor] if cursor.description else []

        yield run


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Polls until a condition gives something true; the value."""

    async def poll(condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(20):
            while not (value := condition()):  # noqa: ASYNC110 - Redis sets no asyncio.Event
                await asyncio.sleep(0.002)
        return value

    return poll
