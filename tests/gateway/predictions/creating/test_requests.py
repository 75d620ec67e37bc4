from __future__ import annotations

import msgspec
import orjson
import pytest

from inference_gateway.errors import Invalid, TooLarge
from inference_gateway.predictions.creating.requests import (
    CreateBody,
    decode,
    duration,
    encode_input,
    named_model,
    wait_seconds,
)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait", 60),
        ("wait=5", 5),
        ("wait=60", 60),
        ("wait=300", 60),
        ("wait=0", 0),
        ('wait="7"', 7),
        ("respond-async, wait=3", 3),
        ("Wait=2; foo", 2),
        ("respond-async", 0),
        ("waiting=5", 0),
        ("", 0),
    ],
)
def test_prefer(prefer: str, seconds: int) -> None:
    assert wait_seconds(prefer) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("1h30m5s", 5405), ("720h", 2592000)],
)
def test_cancel_after(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "1d", "-1s", "1.5h", "721h", "5s5m"])
def test_cancel_after_that_is_no_time(text: str) -> None:
    with pytest.raises(Invalid, match="Cancel-After"):
        duration(text)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"input": {}, "modle": "a/b"}', "modle"),
        (b'{"input": 3}', "input"),
        (b'{"model_id": "a/b"}', "input"),
        (b'{"input": {}, "webhook": 3}', "webhook"),
        (b'{"input": {}, "webhook_events_filter": ["done"]}', "webhook_events_filter[0]"),
    ],
)
def test_a_wrong_field_is_named(content: bytes, field: str) -> None:
    with pytest.raises(Invalid) as error:
        decode(content)
    assert [e["field"] for e in error.value.errors] == [field]


@pytest.mark.parametrize(
    "content", [b"", b"hello", b'{"input": ', b'{"input": {"a": NaN}}', b"[" * 100_000, b"\xff"]
)
def test_what_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        decode(content)


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        ({"model_id": "ada/echo"}, None, ("ada/echo", None)),
        ({"model": "ada/echo"}, None, ("ada/echo", None)),
        ({"version": "ada/echo"}, None, ("ada/echo", None)),
        ({"version": "ada/echo:1.2"}, None, ("ada/echo", "1.2")),
        ({}, "ada/echo", ("ada/echo", None)),
        ({"model": "ada/echo", "version": "ada/echo:2"}, "ada/echo", ("ada/echo", "2")),
    ],
)
def test_a_model_by_any_of_its_names(
    names: dict[str, str], path: str | None, expected: tuple[str, str | None]
) -> None:
    assert named_model(msgspec.convert({"input": {}, **names}, CreateBody), path) == expected


@pytest.mark.parametrize(
    "names", [{}, {"model": "echo"}, {"model": "a/b", "version": "a/c"}, {"version": "f" * 64}]
)
def test_no_model_or_two(names: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        named_model(msgspec.convert({"input": {}, **names}, CreateBody), None)


_DEEP = b"[" * 64 + b"]" * 64


@pytest.mark.parametrize(
    "value",
    [
        *(b'"\\u0000"', b'"a\\\\\\u0000"', b'{"deep": ["\\u0000"]}', b'{"\\u0000": 1}'),
        *(_DEEP, b"[" * 253 + b"]" * 253, b"[" * 100_000 + b"]" * 100_000),
        *(str(1 << 70).encode(), b"-" + str(1 << 64).encode(), b"1e400", b"NaN", b"Infinity"),
        *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"'),
    ],
)
def test_input_that_is_no_value_is_refused(value: bytes) -> None:
    with pytest.raises(Invalid):
        encode_input(decode(b'{"input": {"text": %b}}' % value).input, 1_000_000)


@pytest.mark.parametrize(
    "value", [_DEEP[1:-1], b"18446744073709551615", b"1e30", b'"\\ud83d\\ude00"', b'"[[{"']
)
def test_input_that_is_a_value_is_taken(value: bytes) -> None:
    content = encode_input(decode(b'{"input": {"text": %b}}' % value).input, 1_000_000)
    assert orjson.loads(content) == {"text": orjson.loads(value)}


def test_a_webhook_without_end_is_refused_by_its_name() -> None:
    with pytest.raises(Invalid, match="webhook"):
        decode(b'{"input": {}, "webhook": "https://a/\\u0000"}')


def test_a_backslash_before_u0000_is_only_text() -> None:
    assert encode_input({"text": "\\u0000"}, 1000) == b'{"text":"\\\\u0000"}'


def test_too_large_an_input_names_both_numbers() -> None:
    with pytest.raises(TooLarge, match=r"111 bytes; at most 100 "):
        encode_input({"text": "x" * 100}, 100)
