"""The Redis users of models, on the real Valkey: what they may do, and that they come and go."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import parse_url

from inference_contract import queues
from inference_local import valkey
from inference_operator.credentials import runner_url
from inference_operator.loads import Load, Loads
from inference_operator.redis_acl import RIGHTS_OF_OPERATOR, orphans, set_user, user_name
from inference_operator.redis_link import RedisLink, RedisUnavailable
from inference_operator.redis_users import RedisUsers, UsersRefused

KEY, OTHER = "ann_sample", "ann_sample-2"
USER = user_name(KEY, "0")


@pytest.fixture
def link(redis_url: str, redis_client: redis.Redis) -> Iterator[RedisLink]:
    link = RedisLink(redis_url)
    yield link
    link.close()
    for user in _users(redis_client):
        redis_client.acl_deluser(user)


@pytest.fixture
def users(link: RedisLink) -> RedisUsers:
    return RedisUsers(link)


def _users(client: redis.Redis) -> list[str]:
    found: list[str] = client.acl_users()
    return [user for user in found if user != "default"]


@pytest.fixture
def runner(redis_url: str, users: RedisUsers) -> Iterator[redis.Redis]:
    """A client as a runner of KEY has it; what there is of OTHER's is not for it."""
    url = runner_url(KEY, redis_url)
    users.ensure(KEY, url)
    with redis.Redis.from_url(url) as client:
        yield client


def test_the_command_that_makes_a_user() -> None:
    command = set_user("alice_m", "0", "password")
    assert command[:3] == ("ACL", "SETUSER", "inference:0:alice_m")
    assert "password" not in " ".join(command)
    assert command[3:7] == (
        "reset",
        "on",
        "#5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "resetchannels",
    )
    assert [part for part in command if part.startswith("~")] == [
        "~rq:queue:alice_m",
        "~rq:wip:alice_m",
        "~rq:job:alice_m_*",
        "~rq:execution:alice_m_*",
        "~rq:executions:alice_m_*",
        "~rq:worker:alice_m_*",
        "~rq:workers:alice_m",
        "~alice_m:*",
    ]
    assert command[-2:] == ("(~rq:workers +sadd +srem)", "(~rq:queues +sadd)")
    assert not {"+select", "+acl", "+config", "+keys", "+flushall"} & {*command}


REFUSED: list[tuple[str | int, ...]] = [
    ("RPUSH", f"rq:queue:{KEY}", "x"),  # No runner enqueues.
    ("BLMOVE", f"rq:queue:{OTHER}", f"rq:queue:{KEY}", "LEFT", "LEFT", 1),
    ("BLMOVE", f"rq:queue:{KEY}", f"rq:queue:{OTHER}", "LEFT", "LEFT", 1),
    ("LPOP", f"rq:queue:{OTHER}"),
    ("HGETALL", f"rq:job:{OTHER}_1_1"),
    ("DEL", f"rq:job:{KEY}_1_1", f"rq:job:{OTHER}_1_1"),
    ("ZRANGE", f"rq:wip:{OTHER}", 0, -1),
    ("XADD", f"{OTHER}:events", "*", "d", "[]"),
    ("XADD", f"{OTHER}:stream:1", "1-1", "d", "{}"),
    ("DEL", f"{OTHER}:events"),
    ("HGETALL", f"{OTHER}:cancel"),
    ("HSET", f"rq:worker:{OTHER}_1", "state", "busy"),
    ("SADD", f"rq:workers:{OTHER}", "x"),
    ("DEL", "rq:workers"),
    ("SREM", "rq:queues", "x"),
    ("SMEMBERS", "rq:workers"),
    ("XADD", queues.DOORBELL, "*", "model", OTHER),
    ("DEL", "inference:mark"),
    ("EVAL", "return redis.call('LPOP', KEYS[1])", 1, f"rq:queue:{OTHER}"),
    ("EVAL", f"return redis.call('LPOP', 'rq:queue:{OTHER}')", 0),
    ("EVAL", "return redis.call('FLUSHALL')", 0),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("SELECT", 1),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", USER, "allkeys"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("MONITOR",),
    ("SHUTDOWN",),
    ("REPLICAOF", "NO", "ONE"),
    ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"),
    ("INFO",),
    ("SLOWLOG", "GET"),
    ("RESTORE", f"{KEY}:x", 0, ""),
]


@pytest.mark.parametrize("command", REFUSED, ids=lambda c: " ".join(map(str, c))[:60])
def test_what_a_runner_may_not(
    runner: redis.Redis, redis_client: redis.Redis, command: tuple[str | int, ...]
) -> None:
    redis_client.rpush(f"rq:queue:{KEY}", "a")
    redis_client.rpush(f"rq:queue:{OTHER}", "a")
    with pytest.raises(redis.ResponseError, match=r"[Nn]o permissions|ACL failure in script"):
        runner.execute_command(*command)
    assert redis_client.lrange(f"rq:queue:{OTHER}", 0, -1) == [b"a"]


def test_a_transaction_reaches_no_further(runner: redis.Redis, redis_client: redis.Redis) -> None:
    with runner.pipeline() as pipeline:
        pipeline.xadd(f"{KEY}:events", {"d": "[]"})
        pipeline.xadd(f"{OTHER}:events", {"d": "[]"})
        with pytest.raises(redis.exceptions.NoPermissionError):
            pipeline.execute()
    assert not redis_client.exists(f"{KEY}:events", f"{OTHER}:events")


def test_the_password_is_needed(runner: redis.Redis, redis_url: str) -> None:
    assert runner.hset(f"{KEY}:cancel", "a", 1) == 1
    url = runner_url(KEY, redis_url)
    with redis.Redis.from_url(url) as guess, pytest.raises(redis.AuthenticationError):
        guess.hset(f"{KEY}:cancel", "a", 2)


def test_a_user_stays_in_its_database(redis_url: str, redis_client: redis.Redis) -> None:
    link = RedisLink(f"{redis_url}?db=2")
    url = runner_url(KEY, link.url)
    RedisUsers(link).ensure(KEY, url)
    link.close()
    with redis.Redis.from_url(url) as client:
        client.hset(f"{KEY}:cancel", "a", 1)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command("SELECT", 0)
    assert not redis_client.exists(f"{KEY}:cancel")
    assert _users(redis_client) == [f"inference:2:{KEY}"]
    redis_client.acl_deluser(f"inference:2:{KEY}")


def test_redis_is_asked_for_what_is_news_only(
    users: RedisUsers, redis_url: str, redis_client: redis.Redis
) -> None:
    url = runner_url(KEY, redis_url)
    users.ensure(KEY, url)
    before = redis_client.info("commandstats")["cmdstat_acl|setuser"]["calls"]
    users.ensure(KEY, url)
    assert redis_client.info("commandstats")["cmdstat_acl|setuser"]["calls"] == before
    users.ensure(KEY, runner_url(KEY, redis_url))
    assert redis_client.info("commandstats")["cmdstat_acl|setuser"]["calls"] == before + 1


@pytest.mark.parametrize("harm", [("DELUSER", USER), ("SETUSER", USER, "allkeys", "nopass")])
def test_what_somebody_did_to_a_user_is_undone(
    users: RedisUsers, redis_url: str, redis_client: redis.Redis, harm: tuple[str, ...]
) -> None:
    users.ensure(KEY, runner_url(KEY, redis_url))
    before = redis_client.acl_getuser(USER)
    redis_client.execute_command("ACL", *harm)
    users.restore()
    assert redis_client.acl_getuser(USER) == before


@pytest.mark.parametrize(
    ("found", "in_use", "gone"),
    [
        ([], [], []),
        (["default", "op", "inference", "inference:1:a_m"], [], []),
        (["inference:0:a_m", "inference:0:b_m"], ["a_m", "c_m"], ["inference:0:b_m"]),
    ],
)
def test_whose_models_are_gone(found: list[str], in_use: list[str], gone: list[str]) -> None:
    assert orphans(found, "0", in_use) == gone


def test_the_users_of_models_that_are_gone_are_removed(
    users: RedisUsers, runner: redis.Redis, redis_url: str, redis_client: redis.Redis
) -> None:
    users.ensure(OTHER, runner_url(OTHER, redis_url))
    redis_client.acl_setuser("somebody", enabled=True)
    runner.hgetall(f"{KEY}:cancel")
    users.sweep(lambda: [OTHER])
    assert sorted(_users(redis_client)) == [user_name(OTHER, "0"), "somebody"]
    with pytest.raises((redis.ConnectionError, redis.AuthenticationError)):
        runner.hgetall(f"{KEY}:cancel")
    users.restore()
    assert USER not in _users(redis_client)


RIGHTS_OF_SERVER = "~* +@all -@admin -@dangerous"


@pytest.fixture
def restricted(redis_url: str, redis_client: redis.Redis) -> Iterator[RedisLink]:
    """The operator as a user of a Redis that lets it make no users."""
    rules = ("on", ">secret", *RIGHTS_OF_SERVER.split())
    redis_client.execute_command("ACL", "SETUSER", "op", "reset", *rules)
    link = RedisLink(redis_url.replace("unix://", "unix://op:secret@"))
    yield link
    link.close()
    for user in _users(redis_client):
        redis_client.acl_deluser(user)


def test_a_redis_that_lets_the_operator_make_no_users(
    restricted: RedisLink, redis_client: redis.Redis
) -> None:
    users = RedisUsers(restricted)
    url = runner_url(KEY, restricted.url)
    with pytest.raises(UsersRefused, match=r"NOPERM.* ACL SETUSER op \+acl\|setuser") as refused:
        users.ensure(KEY, url)
    assert "RUNNER_REDIS_URL" in str(refused.value)
    assert "secret" not in str(refused.value)
    with pytest.raises(UsersRefused):
        users.sweep(lambda: ())
    redis_client.execute_command("ACL", "SETUSER", "op", *RIGHTS_OF_OPERATOR.split())
    users.ensure(KEY, url)
    users.sweep(lambda: ())
    assert _users(redis_client) == ["op"]


def test_rights_that_are_taken_away_are_asked_for_again(
    restricted: RedisLink, redis_client: redis.Redis
) -> None:
    redis_client.execute_command("ACL", "SETUSER", "op", *RIGHTS_OF_OPERATOR.split())
    users = RedisUsers(restricted)
    url = runner_url(KEY, restricted.url)
    users.ensure(KEY, url)
    redis_client.execute_command("ACL", "SETUSER", "op", "-acl")
    users.ensure(KEY, url)  # Nothing is news, and nobody asks.
    users.restore()
    with pytest.raises(UsersRefused):
        users.ensure(KEY, url)


class OwnValkey:
    """One that may be restarted."""

    def __init__(self, folder: Path, wait_until: Callable[..., Any]) -> None:
        self._folder, self._wait_until = folder, wait_until
        self.url = valkey.url(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        argv = [*valkey.command(self._folder, self._folder), *options]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        self._wait_until(lambda: valkey.is_ready(self._folder))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)


@pytest.fixture
def own(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[OwnValkey]:
    own = OwnValkey(tmp_path, wait_until)
    own.start()
    yield own
    own.stop()


def test_after_a_restart_the_next_reading_brings_all_users_back(own: OwnValkey) -> None:
    link = RedisLink(own.url)
    users, loads = RedisUsers(link), Loads(link)
    urls = {key: runner_url(key, own.url) for key in (KEY, OTHER)}
    for key, url in urls.items():
        users.ensure(key, url)
    own.stop()
    with pytest.raises(RedisUnavailable):
        loads.read(["ann/sample"])
    users.ensure(KEY, urls[KEY])  # Not news: what runs, runs on.
    with pytest.raises(RedisUnavailable):
        users.ensure("ann_new", runner_url("ann_new", own.url))
    own.start()
    assert loads.read(["ann/sample"]) == {"ann/sample": Load(0, 0)}
    for key, url in urls.items():
        with redis.Redis.from_url(url) as client:
            assert client.hgetall(f"{key}:cancel") == {}
    link.close()


def test_users_are_saved_where_redis_has_a_file_for_them(own: OwnValkey, tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.touch()
    own.stop()
    own.start("--aclfile", str(file))
    link = RedisLink(own.url)
    users = RedisUsers(link)
    url = runner_url(KEY, own.url)
    users.ensure(KEY, url)
    users.restore()
    assert f"user {USER} on" in file.read_text()
    assert str(parse_url(url)["password"]) not in file.read_text()
    own.stop()
    own.start("--aclfile", str(file))
    with redis.Redis.from_url(url) as client:
        assert client.hgetall(f"{KEY}:cancel") == {}
    users.sweep(lambda: ())
    assert USER not in file.read_text()
    link.close()
