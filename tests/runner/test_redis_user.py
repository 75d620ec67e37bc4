"""A runner whose Redis user is not there, or may do nothing: it waits, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from inference_operator.redis.acl import user_name
from inference_operator.redis.connection import RedisConnection
from inference_operator.redis.users import RedisUsers

KEY = "ann_sample"
USER = user_name(KEY, "0")


@pytest.fixture
def give_back(
    redis_url: str, redis_client: redis.Redis, runner_redis_url: str
) -> Iterator[Callable[[], None]]:
    """Makes the user anew, as the operator does."""
    link = RedisConnection(redis_url)
    yield lambda: RedisUsers(link).ensure(KEY, runner_redis_url)
    link.close()
    redis_client.acl_log_reset()  # Here a runner was refused something.


TAKEN = [("DELUSER", USER), ("SETUSER", USER, "-@all"), ("SETUSER", USER, "clearselectors")]


@pytest.mark.parametrize("taken", TAKEN, ids=" ".join)
def test_a_result_waits_until_the_user_is_back(
    queue: Any,
    work: Callable[..., Any],
    redis_client: redis.Redis,
    give_back: Callable[[], None],
    wait_until: Callable[..., Any],
    taken: tuple[str, ...],
) -> None:
    worker = work("Actor", lease=0.6)
    queue.put_one("a", do="sleep", seconds=0.5)
    wait_until(lambda: queue.events("a"))
    redis_client.execute_command("ACL", *taken)
    queue.put_one("b", do="b")
    wait_until(lambda: worker.context.counts[True] == 1)
    denied = wait_until(redis_client.acl_log)
    assert {entry["username"] for entry in denied} == {USER}
    assert queue.end("a") is None
    give_back()
    assert wait_until(lambda: queue.end("a"))["type"] == "succeeded"
    assert wait_until(lambda: queue.end("b"))["type"] == "succeeded"
    wait_until(lambda: not queue.leftovers())
    assert worker.context.counts == {True: 2, False: 0}


def test_a_runner_that_is_earlier_than_its_user_waits_for_it(
    queue: Any,
    runner: Callable[..., Any],
    sample_spec: Callable[..., dict[str, Any]],
    redis_client: redis.Redis,
    give_back: Callable[[], None],
    wait_until: Callable[..., Any],
) -> None:
    redis_client.execute_command("ACL", "DELUSER", USER)
    redis_client.function_flush()
    process = runner(sample_spec("Actor"))
    wait_until(process.is_ready)
    wait_until(redis_client.acl_log)
    queue.put_one("a", do="a")
    give_back()
    assert wait_until(lambda: queue.end("a"))["type"] == "succeeded"
    assert process.is_ready()
