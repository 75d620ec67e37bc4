"""A connection to Redis that is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from inference_gateway.redis import clients
from inference_gateway.redis.replies import Pipe


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_redis_that_reads_nothing_keeps_no_file_of_ours_open(
    redis_url: str, redis_client: redis.Redis, eventually: Callable[..., Any]
) -> None:
    process = redis_client.info("server")["process_id"]
    async with clients.asynchronous(redis_url) as client:
        pipe = Pipe(client, 0.3)
        before = _files()
        await pipe.ask([("PING",)])
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                await pipe.ask([("SET", "key", b"x" * 5_000_000)])
            await eventually(lambda: _files() == before)
        finally:
            os.kill(process, signal.SIGCONT)
        assert await pipe.ask([("PING",)]) == [b"PONG"]
        await pipe.close()
