"""Checks a prediction's input against the model's parameters, on the hot path.

Parameters are a small subset of JSON Schema, so a small checker is enough: it takes about a
microsecond where jsonschema takes fifty. Longer checks run on a thread: see `budget`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference_contract.field_errors import FieldError
from inference_contract.parameters import Parameter, is_whole, simple_items
from inference_gateway.errors import Invalid, cut
from inference_gateway.models.inputs.budget import Budget
from inference_gateway.models.inputs.integers import adapter
from inference_gateway.models.inputs.item_checks import compile_schema, key_of

Check = Callable[[Any, Budget], str | None]
"""A value → its error, or None. Raises TooCostly."""
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_ARTICLE = {"integer": "an", "array": "an", "object": "an"}
_MAX_ERRORS = 20


class InputChecker:
    """Checks a parsed `input` and returns the input for the model: with defaults, also for optional
    values that are null, and with integers that JSON may write as 2.0.

    Args:
        one_of: names of which an input must have exactly one; none if empty.
    """

    def __init__(self, parameters: dict[str, Parameter], one_of: tuple[str, ...] = ()) -> None:
        self._one_of = one_of
        self._checks = {name: _compile(parameter) for name, parameter in parameters.items()}
        self._required = frozenset(n for n, p in parameters.items() if p.is_required)
        adapts = {name: adapter(p.model_dump()) for name, p in parameters.items()}
        self._adapts = {name: adapt for name, adapt in adapts.items() if adapt is not None}
        defaults = {n: p.default for n, p in parameters.items() if p.default is not None}
        self._defaults = self._adapted(defaults)

    def __call__(self, value: object, budget: Budget | None = None) -> dict[str, Any]:
        """
        Raises:
            Invalid: naming each field as `input.<name>`.
            TooCostly: it exceeds the budget (default: one for the event loop).
        """
        if not isinstance(value, dict):
            raise Invalid(
                "input is not an object",
                errors=[{"field": "input", "message": "must be an object"}],
            )
        if None in value.values():
            value = {name: item for name, item in value.items() if not self._is_absent(name, item)}
        errors = self._errors(value, budget or Budget())
        if errors:
            raise Invalid(f"{errors[0]['field']} {errors[0]['message']}", errors=errors)
        return {**self._defaults, **self._adapted(value)}

    def _adapted(self, value: dict[str, Any]) -> dict[str, Any]:
        """The adapted input; a copy if anything changes, as the caller still uses the original."""
        if not self._adapts:
            return value
        changed = {n: adapt(value[n]) for n, adapt in self._adapts.items() if n in value}
        return {**value, **changed} if changed else value

    def _is_absent(self, name: str, item: object) -> bool:
        return item is None and name in self._checks and name not in self._required

    def _errors(self, value: dict[str, Any], budget: Budget) -> list[FieldError]:
        errors: list[FieldError] = []
        checks = self._checks
        for name, item in value.items():
            check = checks.get(name)
            if check is None:
                known = ", ".join(checks) or "none"
                message: str | None = f"is not an input of this model (known: {known})"
            else:
                message = check(item, budget)
            if message is not None:
                errors.append({"field": f"input.{name}", "message": message})
                if len(errors) == _MAX_ERRORS:
                    return errors
        if not self._required <= value.keys():
            errors += [
                {"field": f"input.{name}", "message": "is required"}
                for name in checks
                if name in self._required and name not in value
            ]
        if self._one_of and sum(name in value for name in self._one_of) != 1:
            names = ", ".join(self._one_of)
            errors.append({"field": "input", "message": f"must have exactly one of: {names}"})
        return errors


def _compile(parameter: Parameter) -> Check:
    checks = [_type_check(parameter.type)]
    if parameter.enum is not None:
        checks.append(_enum_check(parameter.enum))
    if parameter.minimum is not None or parameter.maximum is not None:
        checks.append(_bounds_check(parameter.minimum, parameter.maximum))
    if parameter.maxLength is not None:
        checks.append(_length_check(parameter.maxLength))
    if parameter.items is not None:
        checks.append(_items_check(_compile_items(parameter.items)))
    return checks[0] if len(checks) == 1 else _first_of(checks)


def _first_of(checks: list[Check]) -> Check:
    def check(value: Any, budget: Budget) -> str | None:
        for one in checks:
            if (message := one(value, budget)) is not None:
                return message
        return None

    return check


def _type_check(name: str) -> Check:
    types = _TYPES[name]
    message = f"must be {_ARTICLE.get(name, 'a')} {name}"

    def check(value: Any, _budget: Budget) -> str | None:
        # `type(…) in`, not isinstance: in JSON, true is not a number.
        if type(value) in types:
            return None
        if name == "integer" and is_whole(value):
            return None
        return message

    return check


def _enum_check(enum: list[Any]) -> Check:
    allowed = ", ".join(cut(str(value)) for value in enum[:20])

    keys = {key_of(member, Budget(1_000_000)) for member in enum}

    def check(value: Any, budget: Budget) -> str | None:
        return None if key_of(value, budget) in keys else f"must be one of: {allowed}"

    return check


def _bounds_check(minimum: float | None, maximum: float | None) -> Check:
    def check(value: Any, _budget: Budget) -> str | None:
        if type(value) not in (int, float):
            return None
        if minimum is not None and value < minimum:
            return f"must be at least {minimum}"
        if maximum is not None and value > maximum:
            return f"must be at most {maximum}"
        return None

    return check


def _length_check(longest: int) -> Check:
    def check(value: Any, _budget: Budget) -> str | None:
        if isinstance(value, str) and len(value) > longest:
            return f"must have at most {longest} characters"
        return None

    return check


def _items_check(check_item: Check) -> Check:
    def check(value: Any, budget: Budget) -> str | None:
        if not isinstance(value, list):
            return None
        for index, item in enumerate(value):
            budget.spend()
            if (message := check_item(item, budget)) is not None:
                return f"item {index} {message}"
        return None

    return check


def _compile_items(schema: dict[str, Any]) -> Check:
    if (simple := simple_items(schema)) is not None:
        return _compile(simple)
    is_valid = compile_schema(schema)
    return lambda value, budget: None if is_valid(value, budget) else "is not valid"
