"""JSON may write an integer as 2.0; a model whose schema says integer gets 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference_contract.parameters import is_whole

Adapt = Callable[[Any], Any]


def adapter(schema: object) -> Adapt | None:
    """A function from a valid value to the model's value; None if no value changes.

    Follows `items` and `properties`. Values under other keywords, such as `anyOf`, stay unchanged.
    """
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    if kind == "integer" or (isinstance(kind, list) and "integer" in kind and "number" not in kind):
        return _integer
    inside = schema.get("properties")
    found = {k: adapter(v) for k, v in inside.items()} if isinstance(inside, dict) else {}
    fields = {name: adapt for name, adapt in found.items() if adapt is not None}
    item = adapter(schema.get("items"))
    if item is None and not fields:
        return None

    def adapt(value: Any) -> Any:
        if isinstance(value, list) and item is not None:
            return [item(one) for one in value]
        if isinstance(value, dict) and fields:
            return {k: fields[k](v) if k in fields else v for k, v in value.items()}
        return value

    return adapt


def _integer(value: Any) -> Any:
    return int(value) if is_whole(value) else value
