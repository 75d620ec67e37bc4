"""A runner, when Redis' old primary lives on as a replica and keeps its clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from failover import Failover


@pytest.fixture
def runner_redis_url(failover: Failover) -> str:
    return failover.url


@pytest.fixture
def redis_client(failover: Failover) -> redis.Redis:
    return failover.old


@pytest.mark.parametrize("is_waiting", [True, False], ids=["idle", "at work"])
def test_it_works_on_at_the_new_primary(
    failover: Failover,
    runner: Callable[..., Any],
    sample_spec: Callable[..., dict[str, Any]],
    queue: Any,
    wait_until: Callable[..., Any],
    is_waiting: bool,
) -> None:
    process = runner(sample_spec("Actor"), RUNNER_LEASE_SECONDS="2")
    wait_until(process.is_ready)
    queue.put_one("a", do="print")
    wait_until(lambda: queue.end("a"))
    if not is_waiting:
        queue.put_one("b", do="sleep", seconds=2)
        wait_until(lambda: queue.events("b"))
    new = type(queue)(failover.new)
    failover.demote()
    failover.promote()
    new.put_one("c", do="print")
    if not is_waiting:
        assert wait_until(lambda: new.end("b"))["output"] == "sleep"
    assert wait_until(lambda: new.end("c"))["output"] == "print"
    assert process.popen.poll() is None
