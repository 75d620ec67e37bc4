"""The claim script, on the real Valkey."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from inference_contract import functions, queues
from inference_runner.redis.claim import ClaimKeys
from inference_runner.redis.emitter import Emitter
from inference_runner.redis.session import RedisSession, connect
from inference_runner.runs import succeeded

KEY = "ann_sample"


@pytest.fixture
def keys() -> ClaimKeys:
    return ClaimKeys(KEY, "w1")


@pytest.fixture
def link(redis_url: str, keys: ClaimKeys) -> RedisSession:
    return RedisSession(connect(redis_url), keys, Emitter(keys), 30, lambda: False)


def ids(runs: list[Any]) -> list[str]:
    return [run.id for run in runs]


def test_claims_in_order_up_to_the_limit(link: RedisSession, queue: Any) -> None:
    queue.put(*(queue.job(name) for name in "abc"))
    assert ids(link.exchange(2)) == ["a", "b"]
    assert ids(link.exchange(2)) == ["c"]
    assert link.exchange(2) == []


@pytest.mark.parametrize(
    ("crashes", "active", "batches"),
    [
        ([0, 0, 1, 0], 0, [[0, 0], [1], [0]]),
        ([1, 0], 0, [[1], [0]]),
        ([1, 2], 0, [[1], [2]]),
        ([1, 0], 1, [[], []]),
        ([0, 1], 1, [[0], []]),
    ],
    ids=["in the middle", "first", "two of them", "beside another", "after one beside another"],
)
def test_what_a_runner_died_of_is_claimed_alone(
    link: RedisSession, queue: Any, crashes: list[int], active: int, batches: list[list[int]]
) -> None:
    queue.put(*(queue.job(f"p{n}", died + 1, crashes=died) for n, died in enumerate(crashes)))
    claimed = [[run.job["crashes"] for run in link.exchange(8, active=active)] for _ in batches]
    assert claimed == batches


def test_what_was_only_lost_is_claimed_with_others(link: RedisSession, queue: Any) -> None:
    """All that was accepted while Redis was away is of a second attempt."""
    queue.put(queue.job("a", 2), queue.job("b", 3), queue.job("c"))
    assert ids(link.exchange(8)) == ["a", "b", "c"]


@pytest.mark.parametrize("is_there", [True, False])
def test_what_does_not_wait_is_dropped(
    link: RedisSession, queue: Any, redis_client: redis.Redis, is_there: bool
) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    if is_there:
        redis_client.hdel(queues.job_key(f"{KEY}_a_1"), "waits")
    else:
        redis_client.delete(queues.job_key(f"{KEY}_a_1"))
    assert ids(link.exchange(8)) == ["b"]


def test_what_stands_twice_in_the_queue_is_claimed_once(
    link: RedisSession, queue: Any, redis_client: redis.Redis
) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    redis_client.linsert(queues.queue_key(KEY), "BEFORE", f"{KEY}_b_1", f"{KEY}_a_1")
    assert ids(link.exchange(8)) == ["a", "b"]
    assert redis_client.llen(queues.queue_key(KEY)) == 0


def test_a_claim_takes_no_more_off_the_queue_than_it_returns_and_drops(
    link: RedisSession, queue: Any, redis_client: redis.Redis
) -> None:
    queue.put(*(queue.job(name) for name in "abcde"))
    redis_client.delete(queues.job_key(f"{KEY}_a_1"), queues.job_key(f"{KEY}_c_1"))
    assert ids(link.exchange(2)) == ["b", "d"]
    assert redis_client.lrange(queues.queue_key(KEY), 0, -1) == [f"{KEY}_e_1".encode()]


def test_a_claim_that_fails_leaves_the_queue_as_it_was(
    link: RedisSession, keys: ClaimKeys, queue: Any, redis_client: redis.Redis
) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    redis_client.rename(queues.job_key(f"{KEY}_b_1"), "aside")
    redis_client.set(queues.job_key(f"{KEY}_b_1"), "no hash")
    redis_client.execute_command(*functions.LOAD)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        redis_client.execute_command(*keys.claim(2, 0, 30))
    redis_client.rename("aside", queues.job_key(f"{KEY}_b_1"))
    assert ids(link.exchange(2)) == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04pickle",
        b'["os.system",null,[{"id":"a","attempt":1,"token":"t","input":{}}],{}]',
        b'["inference_runner.worker.perform",null,[{"id":"z","attempt":1,"token":"t","input":{}}],{}]',
    ],
    ids=["empty", "pickle", "another function", "another prediction"],
)
def test_a_job_that_is_not_ours_is_never_run(
    link: RedisSession, queue: Any, redis_client: redis.Redis, data: bytes
) -> None:
    queue.put_one("a")
    redis_client.hset(queues.job_key(f"{KEY}_a_1"), "data", data)
    assert link.exchange(8) == []
    assert redis_client.zcard(queues.in_flight_key(KEY)) == 0
    assert not redis_client.exists(queues.job_key(f"{KEY}_a_1"))


def test_a_cancel_is_known_with_the_claim(link: RedisSession, queue: Any) -> None:
    queue.put(queue.job("a"), queue.job("b", 2))
    queue.cancel("a", 1)
    queue.cancel("b", 1)
    assert [run.canceled for run in link.exchange(8)] == [True, False]


def test_the_lease_is_by_the_clock_of_redis(
    link: RedisSession, queue: Any, redis_client: redis.Redis
) -> None:
    queue.put_one("a")
    link.exchange(1)
    seconds, _ = redis_client.time()
    ((_, until),) = redis_client.zscan_iter(queues.in_flight_key(KEY))
    assert 28 < until - seconds < 32


def test_a_renewal_brings_no_released_lease_back(
    link: RedisSession, queue: Any, redis_client: redis.Redis
) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    kept, released = link.exchange(2)
    redis_client.zrem(queues.in_flight_key(KEY), released.lease)
    for command in ClaimKeys(KEY, "w1").renewal([kept, released], 3600):
        redis_client.execute_command(*command)
    ((lease, until),) = redis_client.zscan_iter(queues.in_flight_key(KEY))
    assert lease == kept.lease.encode()
    assert until - redis_client.time()[0] > 3000


def test_who_may_brings_the_functions_back(
    link: RedisSession, queue: Any, redis_client: redis.Redis
) -> None:
    redis_client.function_flush()
    queue.put_one("a")
    assert ids(link.exchange(1)) == ["a"]


def test_a_claim_whose_answer_was_lost_is_taken_in_again(
    link: RedisSession,
    keys: ClaimKeys,
    queue: Any,
    redis_client: redis.Redis,
    wait_until: Callable[..., Any],
) -> None:
    queue.put_one("a")
    # What the claim does whose answer is lost.
    lost = keys.claim(1, 0, 30)
    redis_client.execute_command(*functions.LOAD)
    redis_client.execute_command(*lost)
    with ThreadPoolExecutor() as threads:
        claim = threads.submit(lambda: link.exchange(1, wait=True) or link.exchange(1))
        (waiting,) = wait_until(
            lambda: [c for c in redis_client.client_list() if c["cmd"] == "blmove"]
        )
        redis_client.client_kill_filter(_id=waiting["id"])
        assert ids(claim.result(10)) == ["a"]


def test_results_are_kept_until_redis_accepts_them(
    queue: Any, redis_client: redis.Redis, redis_url: str
) -> None:
    """Out of memory Redis refuses events but would delete jobs: both or none must happen."""
    keys = ClaimKeys(KEY, "w1")
    emitter = Emitter(keys)
    link = RedisSession(connect(redis_url), keys, emitter, 30, lambda: False)
    queue.put_one("a")
    (run,) = link.exchange(1)
    emitter.end(run, succeeded("done"))
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            link.send_through(connect(redis_url))
        assert redis_client.exists(queues.job_key(f"{KEY}_a_1"))
    finally:
        redis_client.config_set("maxmemory", 0)
    link.exchange()
    assert queue.end("a")["output"] == "done"
    assert queue.leftovers() == []
