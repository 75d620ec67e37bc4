"""Keys that an object of JSON has twice: parsers take the last one, and say nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from inference_contract import values

_SPACED = re.compile(rb'"[ \t\r\n]+:')
_CONTAINERS = (dict, list)


class Twice(ValueError):
    """The message is the path of the key: `input.prompt`."""


_Path = tuple[()] | tuple["_Path", str]
"""Of the object around a key, and the key."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written."""


def check(content: bytes, keys: int) -> None:
    """Every key ends with a quote and a colon, and between them nothing but space. In a text there
    is no such pair, unless a backslash comes before it. So counting tells, nearly always.

    Args:
        content: JSON that was parsed.
        keys: how many there are in what was made of it.

    Raises:
        Twice
    """
    if content.count(b'":') == keys and _SPACED.search(content) is None:
        return
    if _colons(content) == keys:
        return
    find(content)


def count(value: object) -> int:
    """All keys in what a parser made."""
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
    """Raises Twice; nothing if there is none, or it is nested too deep to be read so."""
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
                    raise Twice(_written((path, key)))
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
