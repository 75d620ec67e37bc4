"""Compiles the schemas allowed in `items`: JSON Schema (2020-12) as limited by the contract.

jsonschema gives the same results, but fifty times slower and without a time limit; a test compares
the two.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import Any

from inference_gateway.models.inputs.budget import Budget

IsValid = Callable[[Any, Budget], bool]
Make = Callable[[Any, dict[str, Any]], IsValid]


def compile_schema(schema: Any) -> IsValid:
    """Compile a schema that `item_schemas.check` has accepted."""
    if isinstance(schema, bool):
        return lambda _value, _budget: schema
    checks = [
        make(value, schema) for key, value in schema.items() if (make := _maker(key)) is not None
    ]

    def is_valid(value: Any, budget: Budget) -> bool:
        budget.spend()
        return all(check(value, budget) for check in checks)

    return is_valid


def _maker(keyword: str) -> Make | None:
    if keyword in _COMPARED:
        return _of(*_COMPARED[keyword])
    if keyword in _COMBINED:
        return _some(_COMBINED[keyword])
    return _MAKERS.get(keyword)


def key_of(value: Any, budget: Budget) -> Any:
    """A key that is equal for equal values of JSON Schema: 1 and 1.0, but not 1 and true."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        budget.spend(len(value))
        return ("list", *(key_of(item, budget) for item in value))
    if isinstance(value, dict):
        budget.spend(len(value))
        return ("dict", frozenset((name, key_of(item, budget)) for name, item in value.items()))
    return value


def is_type(value: Any, name: str) -> bool:
    if name == "integer":
        return type(value) is int or (type(value) is float and value.is_integer())
    return type(value) in _TYPES[name]


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _type(names: Any, _schema: dict[str, Any]) -> IsValid:
    wanted = [names] if isinstance(names, str) else names
    return lambda value, _: any(is_type(value, name) for name in wanted)


def _enum(members: Any, _schema: dict[str, Any]) -> IsValid:
    keys = {key_of(member, _unbounded()) for member in members}
    containers = any(isinstance(member, list | dict) for member in members)

    def check(value: Any, budget: Budget) -> bool:
        if isinstance(value, list | dict) and not containers:
            return False
        return key_of(value, budget) in keys

    return check


def _of(kinds: tuple[type, ...], holds: Callable[[Any, Any], bool]) -> Make:
    """A keyword that applies to values of these types only."""

    def make(wanted: Any, _schema: dict[str, Any]) -> IsValid:
        return lambda value, _: type(value) not in kinds or holds(value, wanted)

    return make


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    try:
        quotient = value / of
    except OverflowError:
        quotient = inf
    return quotient.is_integer() if quotient < inf else Fraction(value) % Fraction(of) == 0


def _required(names: Any, _schema: dict[str, Any]) -> IsValid:
    def check(value: Any, budget: Budget) -> bool:
        budget.spend(len(names))
        return type(value) is not dict or all(name in value for name in names)

    return check


def _items(schema: Any, whole: dict[str, Any]) -> IsValid:
    check, first = compile_schema(schema), len(whole.get("prefixItems", ()))
    return lambda value, budget: (
        type(value) is not list
        or all(check(value[index], budget) for index in range(first, len(value)))
    )


def _prefix_items(schemas: Any, _schema: dict[str, Any]) -> IsValid:
    checks = [compile_schema(schema) for schema in schemas]
    return lambda value, budget: (
        type(value) is not list
        or all(check(item, budget) for check, item in zip(checks, value, strict=False))
    )


def _contains(schema: Any, whole: dict[str, Any]) -> IsValid:
    check = compile_schema(schema)
    least, most = whole.get("minContains", 1), whole.get("maxContains")

    def holds(value: Any, budget: Budget) -> bool:
        if type(value) is not list:
            return True
        count = sum(check(item, budget) for item in value)
        return count >= least and (most is None or count <= most)

    return holds


def _properties(schemas: Any, _schema: dict[str, Any]) -> IsValid:
    checks = {name: compile_schema(schema) for name, schema in schemas.items()}
    return lambda value, budget: (
        type(value) is not dict
        or all(check(value[name], budget) for name, check in checks.items() if name in value)
    )


def _additional(schema: Any, whole: dict[str, Any]) -> IsValid:
    check, named = compile_schema(schema), whole.get("properties", {})
    return lambda value, budget: (
        type(value) is not dict
        or all(check(item, budget) for name, item in value.items() if name not in named)
    )


def _property_names(schema: Any, _schema: dict[str, Any]) -> IsValid:
    check = compile_schema(schema)
    return lambda value, budget: (
        type(value) is not dict or all(check(name, budget) for name in value)
    )


def _some(how_many: Callable[[int, int], bool]) -> Make:
    def make(schemas: Any, _schema: dict[str, Any]) -> IsValid:
        checks = [compile_schema(schema) for schema in schemas]
        return lambda value, budget: how_many(
            sum(check(value, budget) for check in checks), len(checks)
        )

    return make


def _not(schema: Any, _schema: dict[str, Any]) -> IsValid:
    check = compile_schema(schema)
    return lambda value, budget: not check(value, budget)


def _unbounded() -> Budget:
    return Budget(1_000_000)


_NUMBER, _TEXT, _LIST, _DICT = (int, float), (str,), (list,), (dict,)
_COMPARED: dict[str, tuple[tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "minimum": (_NUMBER, lambda value, bound: value >= bound),
    "maximum": (_NUMBER, lambda value, bound: value <= bound),
    "exclusiveMinimum": (_NUMBER, lambda value, bound: value > bound),
    "exclusiveMaximum": (_NUMBER, lambda value, bound: value < bound),
    "multipleOf": (_NUMBER, _is_multiple),
    "minLength": (_TEXT, lambda value, bound: len(value) >= bound),
    "maxLength": (_TEXT, lambda value, bound: len(value) <= bound),
    "minItems": (_LIST, lambda value, bound: len(value) >= bound),
    "maxItems": (_LIST, lambda value, bound: len(value) <= bound),
    "minProperties": (_DICT, lambda value, bound: len(value) >= bound),
    "maxProperties": (_DICT, lambda value, bound: len(value) <= bound),
}
_COMBINED: dict[str, Callable[[int, int], bool]] = {
    "allOf": lambda valid, given: valid == given,
    "anyOf": lambda valid, _given: valid > 0,
    "oneOf": lambda valid, _given: valid == 1,
}
_MAKERS: dict[str, Make] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value, schema: _enum([value], schema),
    "required": _required,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "not": _not,
}
