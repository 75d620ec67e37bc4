"""Reading the load of all models from the real Valkey."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from inference_contract import queues
from inference_operator.redis import connection
from inference_operator.redis.connection import RedisConnection, RedisUnavailable
from inference_operator.scaling.load import Load, Loads


@pytest.fixture
def link(redis_url: str) -> Iterator[RedisConnection]:
    link = RedisConnection(redis_url)
    yield link
    link.close()


@pytest.fixture
def reader(link: RedisConnection) -> Loads:
    return Loads(link)


def test_queued_and_in_flight_of_each_model(reader: Loads, redis_client: redis.Redis) -> None:
    redis_client.rpush("rq:queue:a_m", "1", "2", "3")
    redis_client.zadd("rq:wip:a_m", {"4": 1.0})
    assert reader.read(["a/m", "b/n"]) == {"a/m": Load(3, 1), "b/n": Load(0, 0)}


def test_what_is_held_is_of_its_model(reader: Loads, redis_client: redis.Redis) -> None:
    redis_client.rpush("rq:queue:a_m", "1", "2", "3")
    redis_client.hset(queues.HELD, "a_m", "40")
    found = reader.read(["a/m", "b/n"])
    assert found == {"a/m": Load(3, 0, 40), "b/n": Load(0, 0)}
    assert found["a/m"].waiting == 43


@pytest.mark.parametrize("odd", ["a string", "a count", "a name"])
def test_what_is_no_count_of_held_ones_is_none(
    reader: Loads, redis_client: redis.Redis, odd: str
) -> None:
    if odd == "a string":
        redis_client.set(queues.HELD, "1")
    else:
        name, count = ("a_m", "many") if odd == "a count" else (b"\xff", "1")
        redis_client.hset(queues.HELD, name, count)
    assert reader.read(["a/m"]) == {"a/m": Load(0, 0)}


def test_no_models_need_no_redis() -> None:
    assert Loads(RedisConnection("unix:///nowhere")).read([]) == {}


def test_many_models_are_one_round_trip(reader: Loads, redis_client: redis.Redis) -> None:
    ids = [f"a/m{number}" for number in range(3000)]
    assert set(reader.read(ids).values()) == {Load(0, 0)}


def test_a_connection_that_was_closed_is_made_again(
    reader: Loads, redis_client: redis.Redis
) -> None:
    reader.read(["a/m"])
    redis_client.client_kill_filter(skipme=True)
    assert reader.read(["a/m"]) == {"a/m": Load(0, 0)}


@pytest.mark.parametrize("url", ["unix:///nowhere", "redis://127.0.0.1:1/0"])
def test_nobody_there(url: str) -> None:
    with pytest.raises(RedisUnavailable):
        Loads(RedisConnection(url)).read(["a/m"])


def test_keys_that_a_runner_spoiled_are_its_own_models_problem(
    reader: Loads, redis_client: redis.Redis
) -> None:
    redis_client.set("rq:queue:a_m", "not a list")
    assert reader.read(["a/m", "b/n"]) == {"b/n": Load(0, 0)}
    redis_client.delete("rq:queue:a_m")
    assert reader.read(["a/m"]) == {"a/m": Load(0, 0)}


def test_user_password_and_database(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.acl_setuser("u", enabled=True, passwords=["+p@ss"], categories=["+@all"], keys="*")
    answered: list[Any] = []

    def serve(listener: socket.socket) -> None:
        """A TCP port in front of the Unix socket, for one connection."""
        client, _ = listener.accept()
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(redis_url.removeprefix("unix://"))
        with client, upstream:
            for _ in range(4):  # the greeting, NO-EVICT and the role, the sign, the question
                upstream.sendall(client.recv(4096))
                answered.append(upstream.recv(4096))
                client.sendall(answered[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        reader = Loads(RedisConnection(f"redis://u:p%40ss@127.0.0.1:{listener.getsockname()[1]}/3"))
        assert reader.read(["a/m"]) == {"a/m": Load(0, 0)}
        thread.join()
        reader.close()
    redis_client.acl_deluser("u")
    greeting, kept, *others = answered
    assert [greeting, *others] == [b"+OK\r\n+OK\r\n", b"+OK\r\n", b":0\r\n:0\r\n*0\r\n"]
    assert kept.startswith(b"+OK\r\n")


def test_a_redis_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = Loads(RedisConnection(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(RedisUnavailable, match="timed out"):
            reader.read(["a/m"])


def test_a_model_that_would_fill_the_operators_memory(
    link: RedisConnection, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_BYTES", 1000)
    redis_client.zadd("rq:wip:a_m", {"x" * 2000: 1.0})
    with pytest.raises(RedisUnavailable, match="more than 1,000 bytes"):
        link.ask([("ZRANGE", "rq:wip:a_m", "0", "-1")])
    assert Loads(link).read(["a/m"]) == {"a/m": Load(0, 1)}


def test_every_reading_leaves_a_sign_of_the_operator(
    reader: Loads, redis_client: redis.Redis
) -> None:
    reader.read([])
    assert 0 < redis_client.ttl(queues.OPERATOR) <= queues.OPERATOR_SECONDS
