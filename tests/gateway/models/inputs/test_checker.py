"""Checking a prediction's input: a table against the parameters, and against jsonschema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from inference_contract.parameters import Parameter, json_schema
from inference_gateway.errors import Invalid
from inference_gateway.models.inputs.checker import InputChecker

PARAMETERS = {
    "prompt": Parameter(type="string", maxLength=5),
    "count": Parameter(type="integer", default=3, minimum=1, maximum=9),
    "scale": Parameter(type="number", required=False, minimum=0),
    "flag": Parameter(type="boolean", required=False),
    "mode": Parameter(type="string", default="a", enum=["a", "b"]),
    "tags": Parameter(type="array", required=False, items={"type": "string", "maxLength": 2}),
    "boxes": Parameter(
        type="array",
        required=False,
        items={"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    ),
    "anything": Parameter(type="object", required=False),
}


def checked(value: object) -> dict[str, Any]:
    return InputChecker(PARAMETERS)(value)


def test_defaults_are_filled_in() -> None:
    assert checked({"prompt": "hi"}) == {"prompt": "hi", "count": 3, "mode": "a"}
    assert checked({"prompt": "hi", "count": 1})["count"] == 1


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ([], "input", "must be an object"),
        (None, "input", "must be an object"),
        ({}, "input.prompt", "is required"),
        ({"prompt": 1}, "input.prompt", "must be a string"),
        ({"prompt": None}, "input.prompt", "must be a string"),
        ({"prompt": "123456"}, "input.prompt", "must have at most 5 characters"),
        ({"prompt": "", "count": 0}, "input.count", "must be at least 1"),
        ({"prompt": "", "count": 10}, "input.count", "must be at most 9"),
        ({"prompt": "", "count": True}, "input.count", "must be an integer"),
        ({"prompt": "", "count": 1.5}, "input.count", "must be an integer"),
        ({"prompt": "", "scale": "1"}, "input.scale", "must be a number"),
        ({"prompt": "", "scale": -0.1}, "input.scale", "must be at least 0"),
        ({"prompt": "", "flag": 1}, "input.flag", "must be a boolean"),
        ({"prompt": "", "mode": "c"}, "input.mode", "must be one of: a, b"),
        ({"prompt": "", "tags": ["ok", 1]}, "input.tags", "item 1 must be a string"),
        ({"prompt": "", "tags": "ok"}, "input.tags", "must be an array"),
        ({"prompt": "", "boxes": [{}]}, "input.boxes", "item 0 is not valid"),
        ({"prompt": "", "anything": []}, "input.anything", "must be an object"),
        ({"prompt": "", "promt": ""}, "input.promt", "is not an input of this model (known: pro"),
    ],
)
def test_what_is_refused(given: object, field: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked(given)
    (error,) = refused.value.errors
    assert error["field"] == field
    assert error["message"].startswith(message)


def test_a_model_without_inputs_says_so() -> None:
    with pytest.raises(Invalid) as refused:
        InputChecker({})({"prompt": ""})
    [error] = refused.value.errors
    assert error["message"] == "is not an input of this model (known: none)"


def test_an_unknown_input_is_answered_with_those_that_are_known() -> None:
    check = InputChecker({name: Parameter(type="string", required=False) for name in "abc"})
    with pytest.raises(Invalid) as refused:
        check({"d": ""})
    [error] = refused.value.errors
    assert error["message"] == "is not an input of this model (known: a, b, c)"


@pytest.mark.parametrize(("bound", "wrong"), [({"minimum": 2}, 1), ({"maximum": 2}, 3)])
def test_one_bound_needs_no_other(bound: dict[str, Any], wrong: int) -> None:
    check = InputChecker({"v": Parameter.model_validate({"type": "integer"} | bound)})
    check({"v": 2})
    with pytest.raises(Invalid):
        check({"v": wrong})


def test_what_is_refused_is_told_in_one_line() -> None:
    with pytest.raises(Invalid) as refused:
        checked({"prompt": 1, "flag": 1})
    assert str(refused.value) == "input.prompt must be a string"


def test_an_input_that_is_no_object_is_told_in_one_line() -> None:
    with pytest.raises(Invalid) as refused:
        checked([])
    assert str(refused.value) == "input is not an object"


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 1), ("count", 9), ("scale", 0), ("prompt", "12345"), ("tags", ["ab"])],
)
def test_a_bound_is_allowed_itself(name: str, value: Any) -> None:
    assert checked({"prompt": "", name: value})[name] == value


def test_a_known_input_that_is_required_may_be_null_for_no_other() -> None:
    with pytest.raises(Invalid) as refused:
        checked({"prompt": "", "promt": None})
    assert [error["field"] for error in refused.value.errors] == ["input.promt"]


def test_an_error_tells_the_first_twenty_members_of_an_enum() -> None:
    many = InputChecker({"v": Parameter(type="integer", enum=list(range(25)))})
    with pytest.raises(Invalid) as refused:
        many({"v": 99})
    [error] = refused.value.errors
    assert error["message"] == f"must be one of: {', '.join(map(str, range(20)))}"


def test_null_is_as_if_left_out_where_that_is_allowed() -> None:
    given = {"prompt": "hi", "count": None, "scale": None, "tags": None}
    assert checked(given) == checked({"prompt": "hi"})


def kinds(value: Any) -> Any:
    if isinstance(value, list):
        return [kinds(item) for item in value]
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    return type(value)


@pytest.mark.parametrize(
    ("parameter", "given", "expected"),
    [
        ({"type": "integer"}, 2.0, 2),
        ({"type": "integer"}, -0.0, 0),
        ({"type": "integer"}, 2.0**63, 2**63),
        ({"type": "number"}, 2.0, 2.0),
        ({"type": "number"}, 2, 2),
        ({"type": "array", "items": {"type": "integer"}}, [1.0, 2], [1, 2]),
        ({"type": "array", "items": {"type": "number"}}, [1.0, 2], [1.0, 2]),
        ({"type": "array"}, [1.0], [1.0]),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            [[1.0]],
            [[1]],
        ),
        (
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"x": {"type": ["integer", "null"]}, "y": {"type": "number"}},
                },
            },
            [{"x": 1.0, "y": 1.0, "z": 1.0}, {"x": None}],
            [{"x": 1, "y": 1.0, "z": 1.0}, {"x": None}],
        ),
        ({"type": "array", "items": {"type": ["integer", "number"]}}, [1.0], [1.0]),
        (
            {
                "type": "array",
                "items": {"type": ["array", "null"], "items": {"type": "integer"}},
            },
            [None, [1.0]],
            [None, [1]],
        ),
        (
            {
                "type": "array",
                "items": {"type": ["object", "null"], "properties": {"x": {"type": "integer"}}},
            },
            [None, {"x": 1.0}],
            [None, {"x": 1}],
        ),
    ],
)
def test_an_integer_reaches_the_model_as_one(
    parameter: dict[str, Any], given: Any, expected: Any
) -> None:
    check = InputChecker({"v": Parameter.model_validate(parameter)})
    said = {"v": given}
    found = check(said)["v"]
    assert (found, kinds(found)) == (expected, kinds(expected))
    assert kinds(said["v"]) == kinds(given)


def test_an_integral_default_is_an_integer() -> None:
    found = InputChecker({"v": Parameter(type="integer", default=2.0)})({})["v"]
    assert type(found) is int


@pytest.mark.parametrize("number", [1e30, -1e30, 2.0**64, float("inf"), float("nan")])
def test_an_integer_has_64_bits(number: float) -> None:
    with pytest.raises(Invalid, match=r"input\.v must be an integer"):
        InputChecker({"v": Parameter(type="integer")})({"v": number})


@pytest.mark.parametrize(
    ("kind", "member", "value", "is_same"),
    [
        ("number", 1, 1.0, True),
        ("integer", 1.0, 1, True),
        ("array", [1], [1.0], True),
        ("array", [1], [True], False),
        ("array", [[0]], [[False]], False),
        ("object", {"a": [1]}, {"a": [True]}, False),
        ("object", {"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ("object", {"a": 1}, {"a": 1, "b": 2}, False),
        ("string", "1", "1", True),
        ("boolean", True, True, True),
        ("number", 2**53 + 1, float(2**53), False),
    ],
)
def test_an_enum_compares_as_json(kind: Any, member: Any, value: Any, is_same: bool) -> None:
    check = InputChecker({"v": Parameter(type=kind, enum=[member])})
    if is_same:
        assert check({"v": value}) == {"v": value}
    else:
        with pytest.raises(Invalid, match="must be one of"):
            check({"v": value})


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        checked({"count": 0, "flag": 0})
    assert {e["field"] for e in refused.value.errors} == {
        "input.count",
        "input.flag",
        "input.prompt",
    }


EITHER = {
    "prompt": Parameter(type="string", required=False),
    "messages": Parameter(type="array", required=False),
}
ONE_OF = ("prompt", "messages")


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ({"prompt": ""}, True),
        ({"messages": []}, True),
        ({"prompt": "", "messages": None}, True),
        ({}, False),
        ({"prompt": None}, False),
        ({"prompt": "", "messages": []}, False),
    ],
)
def test_of_alternatives_an_input_has_exactly_one(value: dict[str, Any], is_valid: bool) -> None:
    given = {name: item for name, item in value.items() if item is not None}
    assert Draft202012Validator(json_schema(EITHER, ONE_OF)).is_valid(given) == is_valid
    check = InputChecker(EITHER, ONE_OF)
    if is_valid:
        assert check(value) == given
        return
    with pytest.raises(Invalid) as refused:
        check(value)
    assert refused.value.errors == [
        {"field": "input", "message": "must have exactly one of: prompt, messages"}
    ]


def test_an_integral_float_is_an_integer() -> None:
    assert checked({"prompt": "", "count": 2.0})["count"] == 2


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 12), st.floats(-2, 12), st.text("ab", max_size=7)
)
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=2),
    st.dictionaries(st.sampled_from(["x", "y"]), _scalars, max_size=1),
    st.lists(st.dictionaries(st.sampled_from(["x", "y"]), _scalars, max_size=2), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*PARAMETERS, "other"]), _values, max_size=4))
def test_it_agrees_with_jsonschema(value: dict[str, Any]) -> None:
    named = {k: v for k, v in value.items() if v is not None or k == "prompt" or k == "other"}
    theirs = Draft202012Validator(json_schema(PARAMETERS)).is_valid(named)
    try:
        checked(value)
        ours = True
    except Invalid:
        ours = False
    assert ours == theirs


@pytest.mark.parametrize(
    "items",
    [
        {"$ref": "https://example.com/schema.json"},
        {"anyOf": [{"type": "string", "pattern": "(a+)+$"}]},
        {"type": "nothing"},
        {"anyOf": []},
        {"allOf": [{"type": "integer"}] * 300},
        {"maxItems": "2"},
        {"properties": {"a": 1}},
        {"nullable": True},
    ],
)
def test_a_schema_that_is_not_safe(items: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="items"):
        Parameter(type="array", items=items)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"type": "integer", "default": 2, "maximum": 1}, "must be at most 1"),
        ({"type": "string", "default": "c", "enum": ["a", "b"]}, "must be one of: a, b"),
        ({"type": "integer", "default": True}, "must be an integer"),
        ({"type": "number", "default": 1, "enum": [True]}, "must be one of: True"),
        ({"type": "string", "default": "ab", "maxLength": 1}, "must have at most 1 characters"),
        ({"type": "array", "default": [1], "items": {"type": "string"}}, "item 0 must be a string"),
        ({"type": "array", "default": [1], "items": {"minLength": 1}}, "must be empty"),
    ],
)
def test_a_default_must_be_valid_itself(parameter: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"the default {message}"):
        Parameter.model_validate(parameter)


def test_a_default_that_is_valid() -> None:
    Parameter(type="integer", default=2.0)
    Parameter(type="array", default=["a"], items={"type": "string"})
