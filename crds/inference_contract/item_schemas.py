"""The part of JSON Schema (2020-12) that `items` of a parameter may use.

It excludes keywords that fetch, recurse or take unbounded time, and unknown keywords.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MAX_SCHEMAS = 200
"""Number of all schemas, nested ones included: each is checked for each item."""
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_SUBSCHEMAS = ("items", "additionalProperties", "propertyNames", "contains", "not")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_ENDLESS = ("pattern", "patternProperties", "uniqueItems")


def check(schema: dict[str, Any]) -> None:
    """Raises ValueError, which names the error."""
    left = MAX_SCHEMAS
    waiting: list[object] = [schema]
    while waiting:
        left -= 1
        if left < 0:
            raise ValueError(f"items: more than {MAX_SCHEMAS} schemas in it")
        waiting += _within(waiting.pop())


def _within(schema: object) -> list[object]:
    if isinstance(schema, bool):
        return []
    if not isinstance(schema, dict):
        raise ValueError("items is not a JSON Schema: a schema is an object, true or false")
    found: list[object] = []
    for keyword, value in schema.items():
        if keyword in ("$ref", "$dynamicRef"):
            raise ValueError(f"items: {keyword} is not supported, write the schema out")
        if keyword in _ENDLESS:
            raise ValueError(f"items: {keyword} is not supported (it can take for ever)")
        if keyword in _SUBSCHEMAS:
            found.append(value)
        elif keyword in _LISTS:
            _require(isinstance(value, list) and bool(value), keyword, "a list of schemas")
            found += value
        elif keyword == "properties":
            _require(isinstance(value, dict), keyword, "an object of schemas")
            found += value.values()
        elif keyword in _VALUES:
            is_right, words = _VALUES[keyword]
            _require(is_right(value), keyword, words)
        else:
            raise ValueError(f"items: the keyword {keyword!r} is not supported")
    return found


def _require(condition: bool, keyword: str, words: str) -> None:
    if not condition:
        raise ValueError(f"items is not a JSON Schema: {keyword} must be {words}")


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and value >= 0 == value % 1


def _are_types(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(name in TYPES for name in names) and len(names) == len({*names})


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(name, str) for name in value)
        and len(value) == len({*value})
    )


def _anything(_: object) -> bool:
    return True


_COUNT = (_is_count, "a whole number from 0")
_NUMBER = (_is_number, "a number")
_TEXT = (lambda value: isinstance(value, str), "a text")
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_are_types, f"one or several of {', '.join(TYPES)}"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "const": (_anything, ""),
    "default": (_anything, ""),
    "examples": (lambda value: isinstance(value, list), "a list"),
    "required": (_are_names, "a list of names"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    **{
        f"{end}{what}": _COUNT
        for end in ("min", "max")
        for what in ("Length", "Items", "Properties", "Contains")
    },
    **dict.fromkeys(("title", "description", "format", "$comment"), _TEXT),
}
