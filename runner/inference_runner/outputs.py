"""Encodes an output as JSON, or finds the part that cannot be encoded."""

from __future__ import annotations

import sys
from typing import Any

import orjson

from inference_contract import values

_MAX_PATH = 200


def encode(said: Any, output: Any) -> bytes:
    """JSON of an object that contains this output. numpy scalars are encoded as numbers and texts.

    Raises:
        TypeError: the output cannot be encoded.
        values.Unacceptable: it is outside the contract's limits.
    """
    try:
        encoded = orjson.dumps(said, default=_scalar)
    except TypeError as error:
        if isinstance(error.__cause__, values.Unacceptable):
            raise error.__cause__ from None
        raise
    if not values.is_plain(encoded):
        values.check(orjson.loads(orjson.dumps(output, default=_scalar)))
    # orjson writes NaN and infinity as null.
    if b"null" in encoded:
        for number in values.numbers(output):
            values.check(number)
    return encoded


def refusal(error: TypeError | values.Unacceptable, output: Any) -> str:
    """The error message for an output that `encode` refuses."""
    path = _where(output, "", 0)[:_MAX_PATH]
    see = f" See output{path}." if path else ""
    if isinstance(error, values.Unacceptable):
        return f"The output {error}.{see}"
    return f"The output is not JSON: {error}.{see}"


def _scalar(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        plain = value.item()
        if type(plain) in (bool, int, str):
            return plain
        if type(plain) is float:
            values.check(plain)
            return plain
    raise TypeError  # orjson says what it is


def _where(value: Any, path: str, depth: int) -> str:
    """The path to the first invalid part; empty if no part is invalid by itself."""
    if depth > values.MAX_DEPTH:
        return path
    if isinstance(value, dict):
        parts = [(f".{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"[{index}]", item) for index, item in enumerate(value)]
    else:
        return path
    for name, item in parts:
        try:
            encode(item, item)
        except (TypeError, values.Unacceptable):
            return _where(item, path + name, depth + 1)
    return path
