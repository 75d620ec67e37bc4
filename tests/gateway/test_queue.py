"""What the gateway puts into Redis, and how, on the real Valkey."""

from __future__ import annotations

import uuid

import redis

from inference_contract import queues
from inference_gateway import redis_clients
from inference_gateway.queue import JobQueue


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
    with redis_clients.blocking(redis_url) as one:
        one.client_setname("one")
        async with redis_clients.asynchronous(redis_url) as two:
            await two.client_setname("two")
            flags = {c["name"]: c["flags"] for c in redis_client.client_list()}
    assert "e" in flags["one"]
    assert "e" in flags["two"]
