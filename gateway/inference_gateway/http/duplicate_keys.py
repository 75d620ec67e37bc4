"""Finds duplicate keys in JSON objects: parsers silently take the last one."""

from __future__ import annotations

import json
import re
from typing import Any

from inference_contract import values

_SPACED = re.compile(rb'"[ \t\r\n]+:')
_CONTAINERS = (dict, list)


class DuplicateKey(ValueError):
    """The message is the path of the key: `input.prompt`."""


_Path = tuple[()] | tuple["_Path", str]
"""The path of the enclosing object, and the key."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of its pairs."""


def check(content: bytes, keys: int) -> None:
    """A fast check by counting. Every key ends with a quote and a colon with only space between,
    which does not occur inside a string without a backslash before it.

    Args:
        content: the JSON text.
        keys: number of keys in the parsed value.

    Raises:
        DuplicateKey
    """
    if content.count(b'":') == keys and _SPACED.search(content) is None:
        return
    if _colons(content) == keys:
        return
    find(content)


def count(value: object) -> int:
    """The number of keys in a parsed value."""
    keys = 0
    nodes: list[Any] = [[value]]
    for node in nodes:
        if type(node) is dict:
            keys += len(node)
            nodes += [inner for inner in node.values() if type(inner) in _CONTAINERS]
        else:
            nodes += [inner for inner in node if type(inner) in _CONTAINERS]
    return keys


def find(content: bytes) -> None:
    """Raises DuplicateKey. Finds none in JSON that is nested too deep for `json`."""
    try:
        whole = json.loads(content, object_pairs_hook=_Pairs)
    except RecursionError:
        return
    nodes: list[tuple[_Path, Any]] = [((), whole)]
    for path, node in nodes:
        if isinstance(node, _Pairs):
            seen: set[str] = set()
            for key, inner in node:
                if key in seen:
                    raise DuplicateKey(_written((path, key)))
                seen.add(key)
                if isinstance(inner, list):
                    nodes.append(((path, key), inner))
        elif isinstance(node, list):
            nodes += [(path, inner) for inner in node if isinstance(inner, list)]


def _written(path: _Path) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(key)
    return ".".join(reversed(keys))


def _colons(content: bytes) -> int:
    return sum([piece.count(b":") for piece in values.outside_texts(content)])
