"""The one definition of a value, held against the encoders and stores that it must survive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_contract import values
from inference_contract.values import MAX_DEPTH, Unacceptable, check, is_plain


@dataclass
class Pair:
    one: float
    other: object


class Level(Enum):
    HIGH = (5.5,)


def nested(depth: int, innermost: Any = 1) -> Any:
    """`depth` containers around something, lists and objects by turns."""
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**63), 2**64 - 1, 1e30, -0.0, 5e-324, 1.7976931348623157e308),
        *("", "é😀", "\\u0000", {"": []}, ((1,), [])),
        nested(MAX_DEPTH),
        nested(MAX_DEPTH - 1, []),
    ],
)
def test_values(value: Any) -> None:
    check(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nested(MAX_DEPTH + 1), "nested more than 64 deep"),
        (nested(MAX_DEPTH, {}), "nested more than 64 deep"),
        (nested(MAX_DEPTH, ()), "nested more than 64 deep"),
        (2**64, "64 bits"),
        ([-(2**63) - 1], "64 bits"),
        (math.nan, "holds nan"),
        ({"k": [-math.inf]}, "holds -inf"),
        ("a\0b", "U.0000"),
        ({"a\0b": 1}, "U.0000"),
        (["\ud83d"], "half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
        ({1: 2}, "the key '1'"),
        ({None: 2}, "the key 'None'"),
    ],
)
def test_no_values(value: Any, message: str) -> None:
    with pytest.raises(Unacceptable, match=message):
        check(value)


def test_a_document_that_repeats_itself_without_end_is_refused_soon() -> None:
    bomb: list[Any] = ["ha"]
    for _ in range(60):
        bomb = [bomb] * 10
    with pytest.raises(Unacceptable, match="more than 1000 values"):
        check(bomb, max_nodes=1000)
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(Unacceptable):
        check(ring)


_TEXTS = st.text(st.characters(exclude_categories=()))
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
)


@given(_ANYTHING)
def test_what_passes_comes_back_from_json_as_it_was(value: Any) -> None:
    try:
        check(value)
    except Unacceptable:
        return
    assert orjson.loads(orjson.dumps(value)) == value


@given(st.binary() | _ANYTHING.map(repr).map(str.encode) | st.integers(0, 3000).map(b"[".__mul__))
def test_what_looks_plain_and_decodes_is_a_value(data: bytes) -> None:
    try:
        decoded = orjson.loads(data)
    except ValueError:
        return
    if is_plain(data):
        check(decoded)


@given(_TEXTS)
def test_any_text_can_be_made_one_that_is_stored(text: str) -> None:
    made = values.text(text)
    check(made)
    assert made == text or not values.is_text(text)


def test_numbers_are_found_wherever_an_encoder_would_write_them_as_null() -> None:
    made = {"a": [1.5, (2.5, {"b": 3.5})], "c": 4, "d": Pair(4.5, [Level.HIGH]), "e": Level.HIGH}
    assert orjson.loads(orjson.dumps(made))["d"] == {"one": 4.5, "other": [[5.5]]}
    assert sorted(values.numbers(made)) == [1.5, 2.5, 3.5, 4.5, 5.5, 5.5]


def test_a_number_that_a_dataclass_does_not_have_yet_is_none() -> None:
    made = Pair(1.5, 0)
    del made.other
    assert list(values.numbers(made)) == [1.5]


def test_of_a_long_key_that_is_no_text_a_part_is_told() -> None:
    with pytest.raises(Unacceptable) as refused:
        check({10**200: 1})
    assert str(refused.value) == f"has the key '1{'0' * 99}', which is no text"


def test_the_number_of_values_has_a_bound_that_may_be_reached() -> None:
    value = [1, {"a": 2}]  # with the list and the object four
    check(value, max_nodes=4)
    with pytest.raises(Unacceptable, match="more than 3 values"):
        check(value, max_nodes=3)


def test_u0000_is_seen_at_a_glance_and_taken_out_of_what_people_read() -> None:
    assert not is_plain(b'"a\\u0000b"')
    assert is_plain(b'"a"')
    assert values.text("a\0b\ud800") == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": 1, "b": {"c": {"d": math.nan}}}, "b.c.d"),
        ({"a": {"b": [{"c": math.nan}]}}, "a.b"),
        ({"a": [1], "b": "ok"}, ""),
        ([math.nan], ""),
        ({"x" * 101: math.nan}, "x" * 100),
        (nested(0, {"a": {"b": {"c": {"d": {"e": {"f": {"g": math.nan}}}}}}}), "a.b.c.d.e.f"),
    ],
)
def test_the_place_of_what_is_wrong_is_told_as_far_as_names_say_it(value: Any, place: str) -> None:
    assert values.place(value) == place


def test_the_place_of_what_is_too_much_or_not_json_is_told_by_the_same_measure() -> None:
    assert values.place({"a": 1, "b": [1, 2, 3]}, max_nodes=3) == "b"
    assert values.place({"a": {1}, "b": b""}, opaque=set) == "b"


def test_one_that_is_nested_too_deep_hides_no_other() -> None:
    deep = b"[" * 3000 + b"]" * 3000
    read = values.parse(b'[{"a": ' + deep + b'}, {"a": "[" }, 7]')
    assert read[1:] == [{"a": "["}, 7]
    with pytest.raises(Unacceptable, match="nested"):
        check(read[0])


def test_what_is_no_json_is_refused_however_it_is_read() -> None:
    for data in (b"[1", b"[" * 3000, b"x"):
        with pytest.raises(ValueError, match=r"\w"):
            values.parse(data)


def test_arrays_and_objects_are_cut_beyond_150_levels() -> None:
    whole = b"[" * 150 + b"1" + b"]" * 150
    assert values.shallow(whole) == whole
    assert values.shallow(b'{"k":' * 149 + b'[[1],"]",[2]]' + b"}" * 149) == (
        b'{"k":' * 149 + b'[null,"]",null]' + b"}" * 149
    )
    assert values.shallow(b"[" * 151) == b"[" * 151


@pytest.mark.parametrize(
    ("content", "outside"),
    [
        (b'{"a":1,"b":"c"}', b"{:1,:}"),
        (b'["a\\"b",1]', b"[,1]"),
        (b'["a\\\\",":"]', b"[,]"),
        (b"", b""),
        (b'["' + b"x" * 65_533 + b'\\"y",":",1]', b"[,,1]"),
        (b'["' + b"x" * 65_532 + b'\\"y",":",1]', b"[,,1]"),
        (b'["' + b"x" * 70_000 + b'",":",1]', b"[,,1]"),
        (b'["' + b"x" * 140_000 + b'",":",1]', b"[,,1]"),
        (b'["' + b"x" * 65_532 + b'\\\\",":",1]', b"[,,1]"),
        (b"[" + b"1," * 40_000 + b'":"]', b"[" + b"1," * 40_000 + b"]"),
    ],
)
def test_what_of_json_is_in_no_text(content: bytes, outside: bytes) -> None:
    assert b"".join(values.outside_texts(content)) == outside
