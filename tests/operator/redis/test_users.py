"""The Redis users of models, on the real Valkey: what they may do, and that they come and go."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from narrow import decoded
from redis.connection import parse_url

from inference_contract import functions, queues
from inference_local import valkey
from inference_operator.redis.acl import RIGHTS_OF_OPERATOR, orphans, set_user, user_name
from inference_operator.redis.connection import RedisConnection, RedisUnavailable
from inference_operator.redis.credentials import runner_url
from inference_operator.redis.users import RedisUsers, UsersRefused
from inference_operator.scaling.load import Load, Loads

KEY, OTHER = "ann_sample", "ann_sample-2"
USER = user_name(KEY, "0")


@pytest.fixture
def link(redis_url: str, redis_client: redis.Redis) -> Iterator[RedisConnection]:
    link = RedisConnection(redis_url)
    yield link
    link.close()
    for user in _users(redis_client):
        redis_client.acl_deluser(user)


@pytest.fixture
def users(link: RedisConnection) -> RedisUsers:
    return RedisUsers(link)


def _users(client: redis.Redis) -> list[str]:
    return [user for user in map(decoded, client.acl_users()) if user != "default"]


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
    assert "password" not in " ".join(map(decoded, command))
    assert command[3:7] == (
        "reset",
        "on",
        "#5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "resetchannels",
    )
    assert command[7:11] == ("-@all", "+time", "+client|setinfo", "+fcall|inference_1_claim")
    assert command[13:] == (
        "(~rq:queue:alice_m +blmove +lindex +lpop)",
        "(~rq:wip:alice_m +zadd +zrem +zscore)",
        "(~rq:job:alice_m_* +hmget +hdel)",
        "(~rq:job:alice_m_* ~rq:execution:alice_m_* ~rq:executions:alice_m_* "
        "~rq:worker:alice_m_* +del)",
        "(~alice_m:events +xadd)",
        "(~alice_m:stream:* +xadd +expire)",
        "(~alice_m:cancel +hgetall +hdel)",
        "(~rq:execution:alice_m_* ~rq:executions:alice_m_* ~rq:worker:alice_m_* +hset +expire)",
        "(~rq:worker:alice_m_* +hget +hdel +hsetnx +sadd +srem)",
        "(~rq:executions:alice_m_* +zadd)",
        "(~rq:workers:alice_m +sadd +srem)",
    )


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
    # Whoever may run a script stops Redis for everybody.
    ("EVAL", "return 1", 0),
    ("EVAL_RO", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LOAD", "REPLACE", functions.CODE),
    ("FUNCTION", "DELETE", functions.LIBRARY),
    ("FUNCTION", "KILL"),
    ("FCALL", "somebody_s", 0),
    ("FCALL_RO", functions.CLAIM, 0),
    ("FCALL", functions.SEND, 0, 2, "LPOP", f"rq:queue:{OTHER}"),
    ("FCALL", functions.SEND, 0, 1, "FLUSHALL"),
    ("FCALL", functions.SEND, 0, 4, "EVAL", "return 1", 0, ""),
    ("FCALL", functions.RENEW, 0, f"rq:wip:{OTHER}", 1000, "x"),
    ("MULTI",),
    ("WATCH", f"{KEY}:events"),
    # What is the server's alone, or every model's.
    ("LPUSH", f"rq:queue:{KEY}", "x"),
    ("HSET", f"rq:job:{KEY}_1_1", "data", "x"),
    ("HSET", f"{KEY}:cancel", "1", "1"),
    ("SADD", "rq:workers", "x"),
    ("SADD", "rq:queues", "x"),
    # What takes longer than its arguments are long.
    ("ZRANGE", f"rq:wip:{KEY}", 0, -1),
    ("LRANGE", f"rq:queue:{KEY}", 0, -1),
    ("LREM", f"rq:queue:{KEY}", 0, "x"),
    ("XRANGE", f"{KEY}:events", "-", "+"),
    ("XREAD", "STREAMS", f"{KEY}:events", "0"),
    ("HGETALL", f"rq:worker:{KEY}_1"),
    ("SMEMBERS", f"rq:workers:{KEY}"),
    ("SORT", f"rq:queue:{KEY}"),
    ("SETRANGE", f"{KEY}:stream:1", 500_000_000, "x"),
    ("APPEND", f"{KEY}:stream:1", "x"),
    ("BITOP", "NOT", f"{KEY}:stream:1", f"{KEY}:stream:2"),
    ("LCS", f"{KEY}:stream:1", f"{KEY}:stream:2"),
    ("SETBIT", f"{KEY}:stream:1", 4_000_000_000, 1),
    ("COPY", f"{KEY}:stream:1", f"{KEY}:stream:2"),
    ("RENAME", f"{KEY}:stream:1", f"{KEY}:stream:2"),
    ("DEBUG", "SLEEP", "1"),
    ("CLIENT", "PAUSE", 1000),
    ("CLIENT", "NO-EVICT", "ON"),
    ("CLIENT", "REPLY", "OFF"),
    ("CLIENT", "TRACKING", "ON"),
    ("PSUBSCRIBE", "*"),
    ("WAIT", 1, 0),
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
    try:
        answer = runner.execute_command(*command)
    except redis.ResponseError as error:
        answer = [str(error).encode()]
    assert re.search(rb"[Nn]o permissions|ACL failure|NOPERM|not allowed", b"".join(answer)), answer
    assert redis_client.lrange(f"rq:queue:{OTHER}", 0, -1) == [b"a"]


TIMES: list[str | int] = [1, "TIME"] * functions.MAX_WORDS
ENDLESS: list[tuple[str | int, ...]] = [
    (functions.CLAIM, 0, f"rq:queue:{KEY}", f"rq:wip:{KEY}", "w", 10**9, 0, "", 30_000, "e"),
    (functions.CLAIM, 0, f"rq:queue:{KEY}", f"rq:wip:{KEY}", "w", "nan", 0, "", 30_000, "e"),
    (functions.RENEW, 0, f"rq:wip:{KEY}", 30_000, *["x"] * (functions.MAX_LEASES + 1)),
    (functions.SEND, 0, *TIMES),
    (functions.SEND, 0, -1),
    (functions.SEND, 0, 0, 0),
    (functions.SEND, 0, "nan", "x"),
    (functions.SEND, 0, "1.5", "TIME"),
    (functions.SEND, 0, 5000, *["x"] * 5000),
]


@pytest.mark.parametrize("call", ENDLESS, ids=lambda c: f"{c[0]} {' '.join(map(str, c[1:8]))}"[:60])
def test_a_function_bounds_its_own_work(
    runner: redis.Redis, redis_client: redis.Redis, call: tuple[str | int, ...]
) -> None:
    for start in range(0, 100_000, 10_000):
        redis_client.rpush(f"rq:queue:{KEY}", *range(start, start + 10_000))
    with pytest.raises(redis.ResponseError):
        runner.execute_command("FCALL", *call)
    assert redis_client.llen(f"rq:queue:{KEY}") == 100_000


def test_a_claim_that_finds_nothing_to_run_looks_at_no_more_than_its_share(
    runner: redis.Redis, redis_client: redis.Redis
) -> None:
    for start in range(0, 100_000, 10_000):
        redis_client.rpush(
            f"rq:queue:{KEY}", *(f"{KEY}_{n}_1" for n in range(start, start + 10_000))
        )
    claim = (f"rq:queue:{KEY}", f"rq:wip:{KEY}", f"rq:worker:{KEY}_1", 1, 0, "", 30_000, "e")
    assert runner.execute_command("FCALL", functions.CLAIM, 0, *claim) == []
    assert redis_client.llen(f"rq:queue:{KEY}") == 100_000 - functions.MAX_JOBS - 1


def test_who_may_call_a_function_reaches_no_further(
    runner: redis.Redis, redis_client: redis.Redis
) -> None:
    """An id in one's own queue may name a stranger's job."""
    redis_client.hset(f"rq:job:{OTHER}_1_1", mapping={"waits": "1", "data": "secret"})
    redis_client.rpush(f"rq:queue:{KEY}", f"{OTHER}_1_1")
    claim = (f"rq:queue:{KEY}", f"rq:wip:{KEY}", f"rq:worker:{KEY}_1", 1, 0, "", 30_000, "e")
    with pytest.raises(redis.ResponseError, match="ACL failure"):
        runner.execute_command("FCALL", functions.CLAIM, 0, *claim)
    assert redis_client.hget(f"rq:job:{OTHER}_1_1", "waits") == b"1"


def test_functions_that_redis_lost_come_back_with_the_next_connection(
    users: RedisUsers, link: RedisConnection, redis_client: redis.Redis
) -> None:
    redis_client.function_flush()
    link.ask([("PING",)])
    [library] = redis_client.function_list(functions.LIBRARY)
    assert functions.SEND.encode() in str(library).encode()


def test_the_password_is_needed(runner: redis.Redis, redis_url: str) -> None:
    assert runner.hgetall(f"{KEY}:cancel") == {}
    url = runner_url(KEY, redis_url)
    with redis.Redis.from_url(url) as guess, pytest.raises(redis.AuthenticationError):
        guess.hgetall(f"{KEY}:cancel")


def test_a_user_stays_in_its_database(redis_url: str, redis_client: redis.Redis) -> None:
    link = RedisConnection(f"{redis_url}?db=2")
    url = runner_url(KEY, link.url)
    RedisUsers(link).ensure(KEY, url)
    link.close()
    with redis.Redis.from_url(url) as client:
        client.xadd(f"{KEY}:events", {"d": "[]"})
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command("SELECT", 0)
    assert not redis_client.exists(f"{KEY}:events")
    assert _users(redis_client) == [f"inference:2:{KEY}"]
    redis_client.acl_deluser(f"inference:2:{KEY}")


def test_who_had_the_user_by_another_password_is_cut_off(
    users: RedisUsers, runner: redis.Redis, redis_url: str, link: RedisConnection
) -> None:
    """The owner's label has moved to another namespace, whose Secret has another password."""
    runner.hgetall(f"{KEY}:cancel")
    moved = runner_url(KEY, redis_url)
    RedisUsers(link).ensure(KEY, moved)
    with pytest.raises((redis.ConnectionError, redis.AuthenticationError)):
        runner.hgetall(f"{KEY}:cancel")
    with redis.Redis.from_url(moved) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("HGETALL", f"{KEY}:cancel")
        connection.read_response()
        RedisUsers(link).ensure(KEY, moved)  # A restarted operator ends no connection.
        connection.send_command("HGETALL", f"{KEY}:cancel")
        assert connection.read_response() == {}


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
def restricted(redis_url: str, redis_client: redis.Redis) -> Iterator[RedisConnection]:
    """The operator as a user of a Redis that lets it make no users."""
    rules = ("on", ">secret", *RIGHTS_OF_SERVER.split())
    redis_client.execute_command("ACL", "SETUSER", "op", "reset", *rules)
    link = RedisConnection(redis_url.replace("unix://", "unix://op:secret@"))
    yield link
    link.close()
    for user in _users(redis_client):
        redis_client.acl_deluser(user)


def test_a_redis_that_lets_the_operator_make_no_users(
    restricted: RedisConnection, redis_client: redis.Redis
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
    restricted: RedisConnection, redis_client: redis.Redis
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
    link = RedisConnection(own.url)
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
    link = RedisConnection(own.url)
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
