"""No model's runners may take all of Redis, on the real Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from inference_contract import functions
from inference_operator.redis import users
from inference_operator.redis.acl import user_name
from inference_operator.redis.budget import RedisBudget
from inference_operator.redis.connection import RedisConnection
from inference_operator.redis.credentials import runner_url
from inference_operator.redis.usage import writer
from inference_operator.redis.users import RedisUsers, Suspended

KEY, OTHER = "ann_sample", "bob_sample"
BUDGET = 4_000_000
VERSION = 1


class Guarded:
    def __init__(self, url: str) -> None:
        self.link, self.news = RedisConnection(url), list[str]()
        self.users = RedisUsers(self.link)
        self.urls = {key: runner_url(key, url) for key in (KEY, OTHER)}
        for key in self.urls:
            self.users.ensure(key, self.urls[key], VERSION)
        self.watch = RedisBudget(
            RedisConnection(url),
            self.users,
            budget=BUDGET,
            allowed=lambda _: 5,
            suspended=self.news.append,
        )

    def client(self, key: str) -> redis.Redis:
        return redis.Redis.from_url(self.urls[key])

    def works(self, key: str) -> bool:
        with self.client(key) as client:
            try:
                return bool(client.hgetall(f"{key}:cancel") == {})
            except redis.AuthenticationError:
                return False


@pytest.fixture
def guarded(redis_url: str, redis_client: redis.Redis) -> Iterator[Guarded]:
    guarded = Guarded(redis_url)
    guarded.watch.check()
    yield guarded
    guarded.watch.close()
    guarded.link.close()
    for key in (KEY, OTHER):
        redis_client.acl_deluser(user_name(key, "0"))


def _one_large(client: redis.Redis) -> None:
    for _ in range(6):
        client.xadd(f"{KEY}:events", {"d": b"x" * 1_000_000})


def _one_that_no_name_leads_to(client: redis.Redis) -> None:
    for number in range(6):
        client.xadd(f"{KEY}:stream:p", {"d": b"x" * 1_000_000}, id=f"1-{number + 1}")


def _many_small(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(60_000):
            pipe.hset(f"rq:worker:{KEY}_{number}", "state", "x" * 20)
        pipe.execute()


def _leases(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for start in range(0, 60_000, 1000):
            pipe.zadd(f"rq:wip:{KEY}", {f"{start + n}{'x' * 60}": 1 for n in range(1000)})
        pipe.execute()


FLOODS = [_one_large, _one_that_no_name_leads_to, _many_small, _leases]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda f: f.__name__)
def test_who_fills_redis_loses_its_user_and_what_it_wrote(
    guarded: Guarded, redis_client: redis.Redis, flood: Callable[[redis.Redis], None]
) -> None:
    with guarded.client(OTHER) as other:
        other.xadd(f"{OTHER}:events", {"d": "[]"})
    redis_client.rpush(f"rq:queue:{KEY}", "waits")
    with guarded.client(KEY) as client:
        flood(client)
        guarded.watch.check()
        with pytest.raises((redis.ConnectionError, redis.AuthenticationError)):
            client.xadd(f"{KEY}:events", {"d": "[]"})
    assert guarded.news == [KEY]
    assert not guarded.works(KEY)
    assert guarded.works(OTHER)
    left = {name for name in redis_client.scan_iter("*") if writer(name) == KEY}
    assert left == set()
    assert redis_client.xlen(f"{OTHER}:events") == 1
    assert redis_client.lrange(f"rq:queue:{KEY}", 0, -1) == [b"waits"]


def test_what_the_server_wrote_is_no_fault_of_the_model(
    guarded: Guarded, redis_client: redis.Redis
) -> None:
    for number in range(8):
        redis_client.hset(f"rq:job:{KEY}_{number}_1", "data", b"x" * 1_000_000)
    with guarded.client(KEY) as client:
        client.hgetall(f"{KEY}:cancel")
        guarded.watch.check()
    assert guarded.works(KEY)


def test_too_many_connections(guarded: Guarded) -> None:
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(guarded.client(KEY)).hgetall(f"{KEY}:cancel")
        guarded.watch.check()
    assert not guarded.works(KEY)
    with pytest.raises(Suspended, match="6 connections, and may have 5"):
        guarded.users.ensure(KEY, guarded.urls[KEY], VERSION)


def _suspend(guarded: Guarded) -> None:
    with guarded.client(KEY) as client:
        _one_large(client)
        guarded.watch.check()


def test_a_changed_document_may_try_at_once(guarded: Guarded) -> None:
    _suspend(guarded)
    with pytest.raises(Suspended, match="6 MiB in Redis, and may have 4 MiB"):
        guarded.users.ensure(KEY, guarded.urls[KEY], VERSION)
    assert not guarded.works(KEY)
    guarded.users.ensure(KEY, guarded.urls[KEY], VERSION + 1)
    assert guarded.works(KEY)


def test_after_a_while_it_may_try_again_and_then_waits_longer(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "FIRST_PAUSE", 0.0)
    _suspend(guarded)
    guarded.watch.check()
    assert guarded.news == [KEY, KEY]
    guarded.users.ensure(KEY, guarded.urls[KEY], VERSION)
    assert guarded.works(KEY)
    monkeypatch.setattr(users, "FIRST_PAUSE", 50.0)
    assert guarded.users.suspend("ann_new", "much") == 50
    assert guarded.users.suspend("ann_new", "much") == 100


def test_who_is_suspended_stays_so_when_redis_comes_back(guarded: Guarded) -> None:
    _suspend(guarded)
    guarded.users.restore()
    assert not guarded.works(KEY)


def test_functions_that_somebody_removed_come_back(
    guarded: Guarded, redis_client: redis.Redis
) -> None:
    redis_client.function_flush()
    guarded.watch.check()
    assert redis_client.function_list(functions.LIBRARY)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rq:worker:ann_sample_pod-1", KEY),
        ("rq:worker:ann_sample_pod-1:executions", KEY),
        ("rq:execution:ann_sample_p_1:0001", KEY),
        ("rq:wip:ann_sample", KEY),
        ("rq:workers:ann_sample", KEY),
        ("ann_sample:events", KEY),
        ("ann_sample:stream:1\n2", KEY),
        ("ann_sample:cancel", ""),
        ("rq:job:ann_sample_p_1", ""),
        ("rq:queue:ann_sample", ""),
        ("rq:workers", ""),
        ("inference:doorbell", ""),
    ],
)
def test_whose_runners_write_a_key(name: str, expected: str) -> None:
    assert writer(name.encode()) == expected


def test_redis_away(wait_until: Any, caplog: pytest.LogCaptureFixture) -> None:
    watch = RedisBudget(
        RedisConnection("unix:///nowhere"),
        RedisUsers(RedisConnection("unix:///nowhere")),
        budget=1,
        allowed=lambda _: 1,
        suspended=print,
        seconds=0.01,
    )
    watch.start()
    wait_until(lambda: "cannot check what models use of Redis" in caplog.text)
    watch.close()


def test_a_user_that_somebody_deleted_is_back_with_the_next_look(
    guarded: Guarded, redis_client: redis.Redis
) -> None:
    redis_client.acl_deluser(user_name(KEY, "0"))
    assert not guarded.works(KEY)
    guarded.watch.check()
    assert guarded.works(KEY)
