"""A Redis URL says to the operator what it says to gateway and runners, which have redis-py."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from inference_contract import field_errors
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.redis import address
from inference_operator.redis.address import RedisAddress


def _of_redis_py(url: str) -> RedisAddress:
    said = parse_url(url)
    kind = said.get("connection_class")
    assert (kind is UnixDomainSocketConnection) == ("path" in said)
    return RedisAddress(
        socket=said.get("path", ""),
        is_encrypted=kind is SSLConnection,
        host=said.get("host", "localhost"),
        port=said.get("port", 6379),
        username=said.get("username", ""),
        password=said.get("password", ""),
        database=str(said.get("db", 0)),
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://r",
        "redis://r:7000/3",
        "redis://r/3?db=4",
        "redis://r/3/",
        "redis://r/three",
        "redis://r/%33",
        "redis://:p%40ss@r",
        "redis://u@r",
        "redis://r?username=u&password=p%2540",
        "redis://u:p@r?username=v&password=q",
        "redis://us%3Aer:p%2F@r/0",
        "rediss://[fd00::1]:6380/2?protocol=3",
        "unix:///run/valkey.sock",
        "unix:///run/a%20b?db=5",
        "unix://u:p@/run/valkey.sock",
    ],
)
def test_it_is_read_as_redis_py_reads_it(url: str) -> None:
    assert address.parse(url) == _of_redis_py(url)


@pytest.mark.parametrize(
    "url", ["r", "http://r", "redis://:secret/w@r", "redis://:secret@r:99999", "redis://r?db=x"]
)
def test_what_is_no_url_is_refused_at_the_start_and_not_quoted(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ClusterSettings(runner_image="r", redis_url=url)
    (line,) = field_errors.of_settings(refused.value, ClusterSettings).splitlines()
    assert "REDIS_URL is no redis://, rediss:// or unix:// URL" in line
    assert "secret" not in str(refused.value)


def test_no_url_for_all_runners_may_be_an_empty_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_REDIS_URL", "")
    assert ClusterSettings(runner_image="r", redis_url="redis://r").runner_redis_url is None
