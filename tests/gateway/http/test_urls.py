"""What a URL and a Host header may hold."""

from __future__ import annotations

from typing import Any

import pytest

from inference_gateway.errors import BadRequest, Invalid
from inference_gateway.http import urls

HOST = b"example.com"


def _scope(query: bytes = b"", path: bytes = b"/v1", version: str = "1.1") -> dict[str, Any]:
    return {"http_version": version, "query_string": query, "raw_path": path}


@pytest.mark.parametrize(
    "host",
    [
        *(b"localhost", b"a.b-c_d~e", b"10.0.0.1:8000", b"h" * 253, b"h:1", b"h:65535"),
        *(b"[::1]", b"[::ffff:10.0.0.1]:80", b"[fe80::ABCD]"),
    ],
)
def test_a_host_is_a_name_or_an_address(host: bytes) -> None:
    urls.check(_scope(), host)
    urls.check(_scope(), host)  # It is known now.


@pytest.mark.parametrize(
    "host",
    [*(b"a b", b"a/b", b"h:", b"h:123456", b"h:x", b"h" * 254, b"[::1", b"[x]", b"h\n", b"\xff")],
)
def test_another_host_is_refused(host: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadRequest) as refused:
            urls.check(_scope(), host)
        assert refused.value.detail == "the Host header is no host name or address"


def test_only_http_1_0_has_no_host() -> None:
    urls.check(_scope(version="1.0"), b"")
    with pytest.raises(BadRequest) as refused:
        urls.check(_scope(), b"")
    assert refused.value.detail == "there is no Host header: HTTP/1.1 asks for one"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (b"a=1&b=2", b"/v1"),
        (b"a=1&&b=2&", b"/v1"),
        (b"a=%C3%A9&b=%20", b"/v1/%E2%82%AC"),
        (b"a=b=c", b"/v1"),
        (b"a=x&b=x", b"/v1"),
        (b"&".join(b"a%d=1" % number for number in range(100)), b"/v1"),
    ],
)
def test_what_can_be_read_is_taken(query: bytes, path: bytes) -> None:
    urls.check(_scope(query, path), HOST)


@pytest.mark.parametrize(
    ("query", "path", "field", "message"),
    [
        (b"a=%FF", b"/v1", "query.a", "is not UTF-8"),
        (b"b=1&a=%00", b"/v1", "query.a", "holds the character U+0000"),
        (b"b=%20&a=1%FF", b"/v1", "query.a", "is not UTF-8"),
        (b"%FF=a=1", b"/v1", "query.%FF", "is not UTF-8"),
        (b"", b"/v1/%FF", "path", "is not UTF-8"),
        (b"", b"/v1/%00", "path", "holds the character U+0000"),
    ],
)
def test_what_is_no_text_is_named(query: bytes, path: bytes, field: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        urls.check(_scope(query, path), HOST)
    assert refused.value.detail == f"{field} {message}"
    assert refused.value.errors == [{"field": field, "message": message}]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"a=1&a=2", "a"),
        (b"a=1&&b=1&a", "a"),
        (b"a=1&%61=2", "a"),
        (b"x+y=1&x%20y=2", "x y"),
        (b"a=b=c&a=d", "a"),
    ],
)
def test_a_parameter_that_is_there_twice_is_named(query: bytes, name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        urls.check(_scope(query), HOST)
    assert refused.value.detail == f"query.{name} is there twice: send one"
    assert refused.value.errors == [{"field": f"query.{name}", "message": "is there twice"}]


def test_more_parameters_than_any_path_takes_are_not_read() -> None:
    with pytest.raises(BadRequest) as refused:
        urls.check(_scope(b"&".join(b"a%d=1" % number for number in range(101))), HOST)
    assert refused.value.detail == "the URL has more than 100 parameters"
