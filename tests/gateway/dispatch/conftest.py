"""Dispatch on the real servers, and a stand-in for a runner that says what a test wants."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import redis
from narrow import decoded
from sqlalchemy import Engine, create_engine, text

from inference_contract import functions, queues
from inference_contract.predictions import Job
from inference_gateway.dispatch.recording.apply_changes import prepare
from inference_gateway.dispatch.recording.recorder import Recorder
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace
from inference_gateway.dispatch.recovery.relay import Relay
from inference_gateway.dispatch.recovery.sweeper import Sweeper
from inference_gateway.lifecycle.job_queue import JobQueue

MODEL = "ada/echo"
KEY = "ada_echo"
LEASE = 30.0

_INSERT = text("""
INSERT INTO predictions (id, owner, model, version, status, token, input, webhook, webhook_events,
                         deadline, created_at)
VALUES (:id, md5('ada')::uuid, :model, '1', 'starting', 'token-1', '{"text": "hi"}', :webhook,
        :events, now() + make_interval(secs => :deadline), now() - make_interval(secs => :age))
""")

# What a runner's claim does, without the blocking part.
_CLAIM = """
local id = redis.call('LPOP', KEYS[1])
if not id then return false end
if redis.call('HEXISTS', 'rq:job:' .. id, 'waits') == 0 then return '' end
redis.call('HDEL', 'rq:job:' .. id, 'waits')
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] + ARGV[1], id .. ':execution')
return {id, redis.call('HGET', 'rq:job:' .. id, 'data')}
"""


class Trusting(OutageGrace):
    """Redis has been there for ever."""

    def active(self, began: float) -> bool:
        return False


@dataclass
class Lab:
    engine: Engine
    redis: redis.Redis
    url: str
    """Of Redis."""
    told: threading.Event = field(default_factory=threading.Event)

    def insert(self, **columns: Any) -> str:
        """A prediction of attempt 1 and `token-1`, old enough for the relay to look at."""
        prediction = str(columns.pop("id", uuid.uuid4()))
        values = {"model": MODEL, "webhook": None, "events": None, "deadline": 3600, "age": 10}
        with self.engine.begin() as connection:
            connection.execute(_INSERT, {**values, **columns, "id": prediction})
        return prediction

    def enqueue(self, *predictions: str, model: str = MODEL) -> None:
        jobs = [
            Job(id=p, attempt=1, token="token-1", input={}, notify=[], crashes=0)
            for p in predictions
        ]
        JobQueue(self.redis).enqueue(model, jobs)

    def claim(self, lease: float = LEASE) -> dict[str, Any] | None:
        """The next job, as a runner gets it."""
        while True:
            keys = [queues.queue_key(KEY), queues.in_flight_key(KEY)]
            reply = self.redis.eval(_CLAIM, 2, *keys, lease)
            if reply is None:
                return None
            if reply != b"":
                job: dict[str, Any] = json.loads(reply[1])[2][0]
                return job

    def send(self, type: str, job: Any, **fields: Any) -> str:
        """Append an event of a job, or of a prediction's first attempt; the entry's id."""
        if isinstance(job, str):
            job = {"id": job, "attempt": 1, "token": "token-1"}
        event = {"type": type, "id": job["id"], "attempt": job["attempt"], "token": job["token"]}
        return self.send_raw(orjson.dumps([{**event, **fields}]))

    def send_raw(self, data: bytes) -> str:
        return decoded(self.redis.xadd(queues.events_key(KEY), {"d": data}))

    def finish(self, job: dict[str, Any], **fields: Any) -> None:
        self.send("succeeded", job, **{"output": "hi", "predict_time": 0.01, **fields})
        self.forget(job)

    def forget(self, job: dict[str, Any]) -> None:
        job_id = queues.job_id(KEY, job["id"], job["attempt"])
        self.redis.delete(queues.job_key(job_id))
        self.redis.zrem(queues.in_flight_key(KEY), f"{job_id}:execution")

    def recorder(self, consumer: str = "one") -> Recorder:
        return Recorder(
            self.engine, self.redis, lease_seconds=LEASE, consumer=consumer, told=self.told
        )

    def record(self, recorder: Recorder | None = None) -> None:
        """Rounds of a recorder until it has acknowledged everything that is there."""
        recorder = recorder or self.recorder()
        for _ in range(50):
            recorder.step()
            groups = [g for g in self._groups() if g["name"] == b"recorder"]
            if not groups or (groups[0]["pending"] == 0 and groups[0]["lag"] == 0):
                return
        raise AssertionError(groups)

    def _groups(self) -> list[dict[str, Any]]:
        try:
            return self.redis.xinfo_groups(queues.events_key(KEY))
        except redis.ResponseError:
            return []

    def relay(
        self,
        sweep_seconds: float = 0,
        grace: OutageGrace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Relay:
        return Relay(
            self.engine,
            self.redis,
            sweep_seconds=sweep_seconds,
            max_attempts=3,
            grace=grace or Trusting(self.redis, LEASE),
            clock=clock,
        )

    def sweeper(self, grace: OutageGrace | None = None, sweep_seconds: float = 0) -> Sweeper:
        grace = grace or Trusting(self.redis, LEASE)
        return Sweeper(
            self.engine, self.redis, sweep_seconds=sweep_seconds, max_attempts=3, grace=grace
        )

    def sql(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            result = connection.execute(text(query), parameters)
            return [row._asdict() for row in result] if result.returns_rows else []

    def keep_waiting(self) -> None:
        """Until `record`: nobody acts on what is missing while the recorder has events to read."""
        self.send("heartbeat", str(uuid.uuid4()))

    def race(self, loops: Sequence[Relay | Sweeper], prediction: str) -> None:
        """All look before any of them has acted, and once more when the recorder has caught up."""
        for loop in loops:
            loop.step()
        assert self.row(prediction)["attempt"] == 1
        self.record()
        for loop in loops:
            loop.step()

    def row(self, prediction: str) -> dict[str, Any]:
        (row,) = self.sql("SELECT * FROM predictions WHERE id = :id", id=prediction)
        return row

    def told_of(self, prediction: str) -> list[str]:
        query = "SELECT event FROM webhook_deliveries WHERE prediction_id = :id ORDER BY event"
        return [row["event"] for row in self.sql(query, id=prediction)]

    def queued(self) -> list[str]:
        """Ids of the predictions that wait, the next one first."""
        found = self.redis.lrange(queues.queue_key(KEY), 0, -1)
        return [queues.parse_job_id(decoded(job))[1] for job in found]


@pytest.fixture
def lab(database_url: str, redis_url: str, redis_client: redis.Redis) -> Iterator[Lab]:
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = prepare(create_engine(url, pool_size=8))
    redis_client.execute_command(*functions.LOAD)
    yield Lab(engine, redis_client, redis_url)
    engine.dispose()
