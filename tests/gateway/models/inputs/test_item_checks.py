"""`items` checked by our own code: it says what jsonschema says, within a budget."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference_contract import item_schemas
from inference_contract.parameters import Parameter
from inference_gateway.models.inputs.budget import Budget, ThreadBudget, TooCostly
from inference_gateway.models.inputs.checker import InputChecker
from inference_gateway.models.inputs.item_checks import compile_schema

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5, -2.0, 1e300]),
    st.text("ab", max_size=3),
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
_counts = st.integers(0, 3)
_keywords: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(item_schemas.TYPES)
    | st.lists(st.sampled_from(item_schemas.TYPES), min_size=1, max_size=2, unique=True),
    "enum": st.lists(_values, min_size=1, max_size=3),
    "const": _values,
    "minimum": st.integers(-2, 2),
    "maximum": st.sampled_from([-1, 0.5, 2]),
    "exclusiveMinimum": st.integers(-2, 2),
    "exclusiveMaximum": st.integers(-2, 2),
    "multipleOf": st.sampled_from([1, 2, 0.5]),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _counts),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _counts),
    "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
}


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    nested = {
        **dict.fromkeys(("items", "additionalProperties", "propertyNames", "contains"), inner),
        "not": inner,
        **dict.fromkeys(
            ("anyOf", "allOf", "oneOf", "prefixItems"), st.lists(inner, min_size=1, max_size=2)
        ),
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    }
    return st.fixed_dictionaries({}, optional={**_keywords, **nested}) | st.booleans()


SCHEMAS = st.recursive(st.fixed_dictionaries({}, optional=_keywords), _schemas, max_leaves=4)


TABLE: list[tuple[Any, list[Any], list[Any]]] = [
    # Schema, values that are valid, values that are not.
    (True, [1, None], []),
    (False, [], [1, None]),
    ({}, [1, None, {}], []),
    ({"title": "x"}, [1], []),
    ({"type": "string"}, ["", "a"], [1, None, []]),
    ({"type": "integer"}, [1, -1, 2.0], [1.5, True, "1"]),
    ({"type": "number"}, [1, 1.5], [True, "1", None]),
    ({"type": "boolean"}, [True, False], [0, 1, None]),
    ({"type": "array"}, [[], [1]], [{}, "[]"]),
    ({"type": "object"}, [{}], [[], None]),
    ({"type": "null"}, [None], [0, False, ""]),
    ({"type": ["string", "null"]}, ["", None], [1]),
    ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, 2, [1], {"a": 1}]),
    ({"enum": [[1, [2]]]}, [[1, [2.0]]], [[1, [True]], [1], 1, [1, [2], 3]]),
    ({"enum": [[]]}, [[]], [{}, [[]]]),
    ({"enum": [{"a": [1]}]}, [{"a": [1.0]}], [{"a": [True]}, {"a": 1}, {"b": [1]}, {}, []]),
    ({"enum": [True]}, [True], [1, "true"]),
    ({"const": 1}, [1, 1.0], [True, 2]),
    ({"minimum": 2}, [2, 3, 2.0, "1", True], [1, 1.9]),
    ({"maximum": 2}, [2, 1, "3", [3]], [3, 2.1]),
    ({"exclusiveMinimum": 2}, [2.1, 3, None], [2, 1]),
    ({"exclusiveMaximum": 2}, [1.9, 1, None], [2, 3]),
    ({"multipleOf": 2}, [0, 4, 4.0, "3"], [3, 1.5]),
    ({"multipleOf": 0.5}, [1, 1.5], [1.25]),
    ({"multipleOf": 0.1}, [0.5], [0.55]),
    ({"multipleOf": 0.5**900}, [2.0**900], []),
    ({"multipleOf": 2.0}, [10**400], [10**400 + 1]),
    ({"minLength": 2}, ["ab", "abc", 1, []], ["a"]),
    ({"maxLength": 2}, ["ab", "a", [1, 2, 3]], ["abc"]),
    ({"minItems": 2}, [[1, 2], [1, 2, 3], "a", {}], [[1]]),
    ({"maxItems": 2}, [[1, 2], [], "abc"], [[1, 2, 3]]),
    ({"minProperties": 2}, [{"a": 1, "b": 1}, [], ""], [{"a": 1}]),
    ({"maxProperties": 1}, [{"a": 1}, {}, [1, 2]], [{"a": 1, "b": 1}]),
    ({"required": ["a", "b"]}, [{"a": 1, "b": None}, 1, ["a"]], [{"a": 1}, {}]),
    ({"items": {"type": "string"}}, [[], ["a"], "a", {"a": 1}], [[1], ["a", 1]]),
    ({"items": False, "prefixItems": [True]}, [[], [1]], [[1, 2]]),
    ({"prefixItems": [{"type": "string"}, True]}, [["a"], ["a", 1, 2], [], 1], [[1], [1, 1]]),
    ({"contains": {"const": 1}}, [[1], [2, 1], 2, {}], [[], [2]]),
    ({"contains": {"const": 1}, "minContains": 0}, [[]], []),
    ({"contains": {"const": 1}, "minContains": 2}, [[1, 1], [1, 2, 1]], [[1]]),
    ({"contains": {"const": 1}, "maxContains": 1}, [[1], [1, 2]], [[1, 1], []]),
    ({"properties": {"a": {"type": "string"}}}, [{"a": ""}, {"b": 1}, {}, [1]], [{"a": 1}]),
    ({"additionalProperties": False}, [{}, [1]], [{"a": 1}]),
    (
        {"additionalProperties": {"const": 1}, "properties": {"a": True}},
        [{"a": 2}, {"a": 2, "b": 1}],
        [{"b": 2}, {"a": 1, "b": 2}],
    ),
    ({"propertyNames": {"maxLength": 1}}, [{"a": 1}, {}, "aa", ["aa"]], [{"aa": 1}]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["", None], [1]),
    ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, [1], [2, 0]),
    ({"not": {"type": "string"}}, [1], [""]),
]


@pytest.mark.parametrize(("schema", "valid", "wrong"), TABLE)
def test_each_keyword_tells_what_is_valid(schema: Any, valid: list[Any], wrong: list[Any]) -> None:
    is_valid = compile_schema(schema)
    assert [value for value in valid if not is_valid(value, Budget())] == []
    assert [value for value in wrong if is_valid(value, Budget())] == []


@pytest.mark.parametrize(
    ("schema", "value", "steps"),
    [
        ({"type": "string"}, "a", 1),
        ({"items": {"type": "string"}}, ["a", "b", "c"], 4),
        ({"required": ["a", "b"]}, {"a": 1, "b": 1}, 3),
        ({"enum": [[]]}, [1, 2, [3]], 5),
        ({"enum": [{}]}, {"a": {"b": 1}}, 3),
        ({"enum": [1]}, [1, 2, 3], 1),
        ({"contains": {"const": 1}}, [1, 1], 3),
    ],
)
def test_a_step_is_one_schema_on_one_value(schema: Any, value: Any, steps: int) -> None:
    compile_schema(schema)(value, Budget(steps))
    with pytest.raises(TooCostly):
        compile_schema(schema)(value, Budget(steps - 1))


def test_a_budget_is_spent_to_its_last_step() -> None:
    budget = Budget(3)
    budget.spend(2)
    budget.spend()
    with pytest.raises(TooCostly):
        budget.spend()


def test_items_of_an_array_are_steps_too() -> None:
    check = InputChecker({"v": Parameter(type="array", items={"type": "string"})})
    check({"v": ["a", "b"]}, Budget(2))
    with pytest.raises(TooCostly):
        check({"v": ["a", "b"]}, Budget(1))


@pytest.fixture
def thread_seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the thread's clock shows next, one after the other; a nap takes none of it."""
    shown: list[float] = []
    monkeypatch.setattr(time, "thread_time", lambda: shown.pop(0))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    return shown


def test_a_thread_goes_on_after_a_slice_while_it_has_time(thread_seconds: list[float]) -> None:
    thread_seconds += [100.0, 101.9, 102.1]
    budget = ThreadBudget(2.0)
    for _ in range(2001):
        budget.spend()
    assert thread_seconds == [102.1]
    with pytest.raises(TooCostly):
        budget.spend(1000)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, _values)
def test_it_says_what_jsonschema_says(schema: Any, value: Any) -> None:
    if isinstance(schema, dict):
        item_schemas.check(schema)
    theirs = Draft202012Validator(schema).is_valid(value)
    assert compile_schema(schema)(value, Budget(100_000)) == theirs


COSTLY = Parameter(type="array", items={"allOf": [{"type": "integer"}] * 150})
MANY = {"v": list(range(40_000))}


def test_on_the_event_loop_a_check_ends_within_its_steps() -> None:
    with pytest.raises(TooCostly):
        InputChecker({"v": COSTLY})(MANY)


def test_on_a_thread_it_ends_within_its_time() -> None:
    began = time.thread_time()
    with pytest.raises(TooCostly):
        InputChecker({"v": COSTLY})(MANY, ThreadBudget(0.05))
    assert time.thread_time() - began < 5


def test_an_enum_of_a_thousand_costs_what_one_of_two_costs() -> None:
    check = InputChecker({"v": Parameter(type="array", items={"enum": list(range(1000))})})
    assert check({"v": [999] * 700}, Budget(2000))


def test_of_very_many_unknown_names_the_first_are_looked_at() -> None:
    with pytest.raises(Exception, match="known: v") as refused:
        InputChecker({"v": COSTLY})({str(number): 0 for number in range(100_000)})
    assert len(refused.value.errors) == 20  # type: ignore[attr-defined]
