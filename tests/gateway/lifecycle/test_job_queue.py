"""What the gateway puts into Redis, and how, on the real Valkey."""

from __future__ import annotations

import uuid

import pytest
import redis
from narrow import decoded

from inference_contract import queues
from inference_contract.predictions import Job
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_gateway.redis import clients


def job(name: str, text: str = "", crashes: int = 0) -> Job:
    return Job(id=name, attempt=1, token="t", input={"text": text}, notify=[], crashes=crashes)


def queued(redis_client: redis.Redis) -> list[str]:
    found = redis_client.lrange(queues.queue_key("ada_echo"), 0, -1)
    return [queues.parse_job_id(decoded(job_id))[1] for job_id in found]


@pytest.mark.parametrize(("front", "order"), [(False, "bacd"), (True, "dcab")])
def test_of_many_jobs_those_that_are_there_stay_as_they_are(
    redis_client: redis.Redis, front: bool, order: str
) -> None:
    jobs = JobQueue(redis_client)
    jobs.enqueue("ada/echo", [job("b", "first")])
    key = queues.job_key("ada_echo_b_1")
    before = redis_client.hgetall(key)
    new = [job("a"), job("b", "second", crashes=1), job("c"), job("d"), job("c", "again")]
    assert jobs.enqueue("ada/echo", new, front=front) == 3
    assert queued(redis_client) == [*order]
    assert redis_client.hgetall(key) == before


def test_many_large_inputs_pass_a_redis_that_takes_only_so_much_at_once(
    redis_client: redis.Redis,
) -> None:
    jobs = [
        {
            "id": str(uuid.uuid4()),
            "attempt": 1,
            "token": "t",
            "input": {"text": "x" * 1_000_000},
            "notify": [],
            "crashes": 0,
        }
        for _ in range(70)
    ]
    redis_client.config_set("client-query-buffer-limit", "64mb")
    assert JobQueue(redis_client).enqueue("ada/echo", jobs) == 70  # type: ignore[arg-type]
    assert redis_client.llen(queues.queue_key("ada_echo")) == 70


async def test_redis_never_ends_a_connection_of_ours_to_save_memory(
    redis_url: str, redis_client: redis.Redis
) -> None:
    with clients.blocking(redis_url) as one:
        one.client_setname("one")
        async with clients.asynchronous(redis_url) as two:
            await two.client_setname("two")
            flags = {c["name"]: c["flags"] for c in redis_client.client_list()}
    assert "e" in flags["one"]
    assert "e" in flags["two"]
