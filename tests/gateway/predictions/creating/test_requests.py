from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest

from inference_gateway.errors import Invalid, TooLarge
from inference_gateway.predictions.creating.requests import (
    CreateBody,
    CreateHeaders,
    LargeBody,
    chosen_id,
    decode,
    decode_large,
    duration,
    encode,
    encode_input,
    named_model,
    parse_headers,
    request_hash,
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
    [("30s", 30), (" 1s ", 1), ("5m", 300), ("1h", 3600), ("1h30m5s", 5405), ("720h", 2592000)],
)
def test_cancel_after(text: str, seconds: int) -> None:
    assert duration(text) == seconds


def test_a_time_without_end_is_refused_in_words() -> None:
    with pytest.raises(Invalid) as refused:
        duration("721h")
    message = "must be a time like 30s, 5m or 1h30m, at most 720h"
    assert refused.value.detail == f"Cancel-After: {message}."
    assert refused.value.errors == [{"field": "Cancel-After", "message": message}]


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
    ("names", "path", "field", "message"),
    [
        ({}, None, "model_id", "name a model: owner/name"),
        ({"model": "echo"}, None, "model", "'echo' is not owner/name or owner/name:version"),
        (
            {"version": "f" * 101},
            None,
            "version",
            f"'{'f' * 100}' is not owner/name or owner/name:version",
        ),
        (
            {"version": "a/c:1"},
            "a/b",
            "version",
            "'a/c:1' is another model than 'a/b'",
        ),
        ({"model_id": "a/c"}, "a/b", "model_id", "'a/c' is another model than 'a/b'"),
        ({}, "echo", "path", "'echo' is not owner/name or owner/name:version"),
    ],
)
def test_a_wrong_model_is_named(
    names: dict[str, str], path: str | None, field: str, message: str
) -> None:
    with pytest.raises(Invalid) as refused:
        named_model(msgspec.convert({"input": {}, **names}, CreateBody), path)
    assert refused.value.detail == f"{field}: {message}."
    assert refused.value.errors == [{"field": field, "message": message}]


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], CreateHeaders()),
        ([(b"accept", b"*/*")], CreateHeaders()),
        ([(b"prefer", b"wait=5")], CreateHeaders(wait_seconds=5)),
        ([(b"prefer", b"respond-async"), (b"prefer", b"wait=5")], CreateHeaders(wait_seconds=5)),
        ([(b"prefer", b"wait=5"), (b"prefer", b"respond-async")], CreateHeaders(wait_seconds=5)),
        ([(b"prefer", b"")], CreateHeaders()),
        ([(b"cancel-after", b"1m")], CreateHeaders(cancel_after=60)),
        ([(b"idempotency-key", b"k")], CreateHeaders(idempotency_key="k")),
        ([(b"idempotency-key", b"k" * 255)], CreateHeaders(idempotency_key="k" * 255)),
        ([(b"accept", b"a"), (b"accept", b"b"), (b"cancel-after", b"1m")],
         CreateHeaders(cancel_after=60)),
        (
            [(b"prefer", b"wait"), (b"cancel-after", b"1h"), (b"idempotency-key", b"a b~")],
            CreateHeaders(60, 3600, "a b~"),
        ),
    ],
)  # fmt: skip
def test_headers(given: list[tuple[bytes, bytes]], expected: CreateHeaders) -> None:
    assert parse_headers(dict(given), given) == expected


_KEY = "must be 1 to 255 printable characters"
_TIME = "must be a time like 30s, 5m or 1h30m, at most 720h"


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ([(b"cancel-after", b"1m"), (b"cancel-after", b"1m")], "Cancel-After", "is there twice"),
        (
            [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")],
            "Idempotency-Key",
            "is there twice",
        ),
        ([(b"cancel-after", b"")], "Cancel-After", _TIME),
        ([(b"idempotency-key", b"")], "Idempotency-Key", _KEY),
        ([(b"idempotency-key", b"k" * 256)], "Idempotency-Key", _KEY),
        ([(b"idempotency-key", b"\xe9")], "Idempotency-Key", _KEY),
        ([(b"idempotency-key", b"a\tb")], "Idempotency-Key", _KEY),
    ],
)
def test_a_wrong_header_is_named(
    given: list[tuple[bytes, bytes]], field: str, message: str
) -> None:
    with pytest.raises(Invalid) as refused:
        parse_headers(dict(given), given)
    assert refused.value.detail == f"{field}: {message}."
    assert refused.value.errors == [{"field": field, "message": message}]


def test_an_id_is_chosen_as_a_uuid() -> None:
    assert chosen_id("0192f3a1-0000-7000-8000-0000000000ff") == UUID(
        "0192f3a1-0000-7000-8000-0000000000ff"
    )
    with pytest.raises(Invalid) as refused:
        chosen_id("mine")
    assert refused.value.errors == [{"field": "prediction_id", "message": "choose a UUID"}]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"input": 3}', "input: Expected `object`, got `int`."),
        (b'{"model_id": "a/b"}', "input: Object missing required field `input`."),
        (b"3", "Expected `object`, got `int`."),
        (b'{"input": {"a": 1, "a": 2}}', "input.a: is there twice."),
        (b'{"input": {}, "input": {}}', "input: is there twice."),
        (b'{"input": {}, "webhook": "\\u0000"}', "webhook: holds the character U+0000."),
    ],
)
def test_a_wrong_body_is_told_in_words(content: bytes, detail: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(content)
    assert refused.value.detail == detail


def test_a_body_that_is_no_object_has_no_wrong_field() -> None:
    with pytest.raises(Invalid) as refused:
        decode(b"3")
    assert refused.value.errors == []


@pytest.mark.parametrize(
    "fields",
    [
        {"model_id": "a/b"},
        {"model": "a/b"},
        {"version": "a/b"},
        {"webhook": "https://a"},
        {"webhook_events_filter": ["start"]},
        {"stream": True},
    ],
)
@pytest.mark.parametrize("input", [{}, {"a": ":"}, {"a": {"b": 1}}])
def test_every_field_counts_once(fields: dict[str, Any], input: dict[str, Any]) -> None:
    content = orjson.dumps({"input": input, **fields})
    assert decode(content) == msgspec.convert({"input": input, **fields}, CreateBody)
    (field, value), *_ = fields.items()
    twice = content[:-1] + b"," + orjson.dumps({field: value})[1:]
    with pytest.raises(Invalid) as refused:
        decode(twice)
    assert refused.value.errors == [{"field": field, "message": "is there twice"}]


def test_a_large_body_is_of_a_kind_of_its_own() -> None:
    assert isinstance(decode_large(b'{"input": {"a": 1}}'), LargeBody)
    with pytest.raises(TooLarge):
        decode_large(b'{"input": {"a": [%b]}}' % b",".join([b"0"] * 2_000_000))


REQUEST = CreateBody(input={"a": 1, "b": 2}, version="a/b:1", webhook="https://a")


def test_the_same_request_has_the_same_hash() -> None:
    again = CreateBody(input={"b": 2, "a": 1}, version="a/b:1", webhook="https://a", stream=True)
    assert request_hash(REQUEST, "a/b", 60) == request_hash(again, "a/b", 60)


@pytest.mark.parametrize(
    ("changes", "model", "cancel_after"),
    [
        ({"input": {"a": 1}}, "a/b", 60),
        ({"version": None}, "a/b", 60),
        ({"webhook": None}, "a/b", 60),
        ({"webhook_events_filter": ["start"]}, "a/b", 60),
        ({}, "a/c", 60),
        ({}, "a/b", None),
    ],
)
def test_another_request_has_another_hash(
    changes: dict[str, Any], model: str, cancel_after: int | None
) -> None:
    fields = {name: getattr(REQUEST, name) for name in ("input", "version", "webhook")}
    other = msgspec.convert({**fields, **changes}, CreateBody)
    assert request_hash(other, model, cancel_after) != request_hash(REQUEST, "a/b", 60)


def test_only_a_request_with_a_key_is_hashed() -> None:
    plain = encode(REQUEST, {"a": 1}, "a/b", CreateHeaders(), 100)
    assert plain == (b'{"a":1}', None)
    keyed = encode(REQUEST, {"a": 1}, "a/b", CreateHeaders(0, 60, "k"), 100)
    assert keyed == (b'{"a":1}', request_hash(REQUEST, "a/b", 60))
    with pytest.raises(TooLarge):
        encode(REQUEST, {"a": 1}, "a/b", CreateHeaders(), 6)


def test_an_integer_of_more_than_64_bits_is_refused() -> None:
    large = CreateBody(input={"a": 1 << 64})
    for refuse in (
        lambda: encode_input(large.input, 1000),
        lambda: request_hash(large, "a/b", None),
    ):
        with pytest.raises(Invalid) as refused:
            refuse()
        (error,) = refused.value.errors
        assert error["field"] == "input"
        assert "64-bit" in error["message"]


def test_an_input_of_the_limit_is_taken() -> None:
    assert len(encode_input({"text": "x" * 89}, 100)) == 100
    with pytest.raises(TooLarge) as refused:
        encode_input({"text": "x" * 90}, 100)
    assert refused.value.detail == (
        "The input has 101 bytes; at most 100 (MAX_INPUT_BYTES) are allowed."
    )
