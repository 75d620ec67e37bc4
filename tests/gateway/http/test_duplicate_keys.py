"""A key that is there twice is refused, with its path, wherever JSON is taken."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_contract import values
from inference_gateway.http import duplicate_keys

Auth = Callable[..., dict[str, str]]
_WORDS = st.text(st.sampled_from('a:"\\{},[] \n'), max_size=3)
_VALUES = st.recursive(
    st.none() | st.integers() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_WORDS, inner), max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/predictions", '{"model":"a/b","input":{"a":1,"a":2}}', "input.a"),
        ("POST", "/v1/predictions", '{"model":"a/b","input":{"a":":","\\u0061":2}}', "input.a"),
        ("POST", "/v1/predictions", '{"model":"a/b","input":{"x":[{"y":{"z" :1,"z":2}}]}}', "z"),
        ("POST", "/v1/predictions", '{"input":{},"model":"a/b","input":{"a":1}}', "input"),
        ("POST", "/v1/models/a/b/predictions", '{"input":{"a":1,"a":null}}', "input.a"),
        ("POST", "/v1/models", '{"name":"a","name":"b"}', "body.name"),
        ("PUT", "/v1/models/ada/b", '{"spec":{"source":{"path":"a","path":"b"}}}', "body.spec"),
        ("POST", "/v1/auth/tokens", '{"name":"a","name":"b"}', "body.name"),
        ("PATCH", "/v1/users/ada", '{"disabled":true,"disabled":false}', "body.disabled"),
    ],
)
async def test_a_key_that_is_there_twice_is_named(
    client: httpx.AsyncClient, auth: Auth, method: str, path: str, body: str, field: str
) -> None:
    headers = auth("root", admin=True) | {"Content-Type": "application/json"}
    reply = await client.request(method, path, content=body, headers=headers)
    assert reply.status_code == 422, reply.text
    assert field in reply.json()["errors"][0]["field"]
    assert reply.json()["errors"][0]["message"] == "is there twice"


async def test_a_colon_in_a_text_is_no_key(client: httpx.AsyncClient, auth: Auth) -> None:
    body = {"model": "a/b", "input": {"a": 'x: "y": \\', "b": {"c": "data:;base64,"}}}
    reply = await client.post("/v1/predictions", json=body, headers=auth("ada"))
    assert reply.json()["detail"].startswith("no model a/b")


@given(_VALUES)
def test_it_is_found_exactly_where_it_is(value: object) -> None:
    text = _encode(value)
    content = text.encode()
    try:
        duplicate_keys.check(content, duplicate_keys.count(json.loads(text)))
    except duplicate_keys.DuplicateKey:
        assert _has_twice(value)
    else:
        assert not _has_twice(value)


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (1, 0),
        ([], 0),
        ({"a": 1, "b": [1, {"c": {"d": 2}}]}, 4),
        ([[{"a": 1}], {"b": {"c": 1, "d": 1}}, "e"], 4),
    ],
)
def test_every_key_counts_once(value: object, keys: int) -> None:
    assert duplicate_keys.count(value) == keys


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":1,"a":2}', "a"),
        ('{"x":{"y":{"a":1,"a":2}}}', "x.y.a"),
        ('{"x":[1,{"a":1,"a" :2}]}', "x.a"),
        ('[[{"b":{"a":1}}],{"c":{"a":1,"a":2}}]', "c.a"),
    ],
)
def test_the_path_of_what_is_there_twice(text: str, path: str) -> None:
    content = text.encode()
    with pytest.raises(duplicate_keys.DuplicateKey) as found:
        duplicate_keys.check(content, duplicate_keys.count(json.loads(text)))
    assert str(found.value) == path


def test_what_is_outside_of_texts() -> None:
    content = rb'{"a\\":"x\"y:","b" : [1]}'
    assert b"".join(values.outside_texts(content)) == b"{:, : [1]}"


def _encode(value: object) -> str:
    """Lists of pairs are objects."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return f"{{{', '.join(f'{json.dumps(k)} : {_encode(v)}' for k, v in value)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_encode, value))}]"
    return json.dumps(value)


def _has_twice(value: object) -> bool:
    if not isinstance(value, list):
        return False
    pairs = [item for item in value if isinstance(item, tuple)]
    inner = [item[1] if isinstance(item, tuple) else item for item in value]
    return len({key for key, _ in pairs}) < len(pairs) or any(map(_has_twice, inner))
