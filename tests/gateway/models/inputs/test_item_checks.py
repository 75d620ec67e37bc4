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
