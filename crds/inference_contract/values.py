"""Which values are valid: inputs, outputs, defaults and enums of documents, events.

A value is JSON that all encoders and stores can hold, above all PostgreSQL's jsonb:

- objects and arrays are nested at most `MAX_DEPTH` deep (encoders give up at some depth);
- integers have 64 bits, from -2**63 to 2**64 - 1; floats are finite. What leaves jsonb as an
  integer beyond that was a float (1e30), and is read as one;
- texts, keys included, hold neither U+0000 nor half of a surrogate pair.

Values from outside are checked once, where they arrive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 64
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
MAX_NODES = 200_000
"""Values in a document: YAML's aliases can make a small file endless."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_PLACE = 6
_PIECE = 65_536
"""Bytes processed at once, as each piece holds the GIL."""
_SHALLOW = 150
"""Enough for a value with its enclosing objects, and within every parser's limit."""
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)


class Unacceptable(ValueError):
    """The message continues a sentence about the value: "is nested …"."""


def is_plain(data: bytes) -> bool:
    """A fast check of decodable JSON: few brackets, no U+0000. True: certainly valid. False: call
    `check` on the decoded value. Costs 0.2 µs for a small text."""
    return data.count(b"[") + data.count(b"{") <= MAX_DEPTH and b"\\u0000" not in data


def check(value: Any, max_nodes: int | None = None, opaque: type | tuple[type, ...] = ()) -> None:
    """Check a decoded value, or one that was never JSON.

    Args:
        max_nodes: limit of values in it, each counted as often as it occurs.
        opaque: types outside of JSON that are allowed.

    Raises:
        Unacceptable
    """
    nodes = 1
    level: list[Any] = [value]
    for depth in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for node in level:
            if type(node) is int:  # The most frequent by far.
                _check_integer(node)
            elif isinstance(node, dict | list | tuple):
                below += _members(node)
                if depth == MAX_DEPTH:
                    raise Unacceptable(f"is nested more than {MAX_DEPTH} deep")
                if max_nodes is not None and nodes + len(below) > max_nodes:
                    raise Unacceptable(f"has more than {max_nodes} values")
            elif not isinstance(node, opaque):
                _check_scalar(node)
        nodes += len(below)
        level = below


def place(value: Any, max_nodes: int | None = None, opaque: type | tuple[type, ...] = ()) -> str:
    """The path of the value that `check` refuses: `inputSchema.x.default`, as far as it has
    names."""
    path: list[str] = []
    while len(path) < _MAX_PLACE and isinstance(value, dict):
        for key, inner in value.items():
            try:
                check(inner, max_nodes, opaque)
            except Unacceptable:
                path.append(str(key)[:100])
                value = inner
                break
        else:
            break
    return ".".join(path)


def text(value: str) -> str:
    """The text with characters replaced that cannot be stored; for logs and messages."""
    if "\0" in value:
        value = value.replace("\0", _REPLACEMENT)
    if value.isascii() or is_text(value):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_text(value: str) -> bool:
    """Whether it has neither lone surrogates nor U+0000."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def parse(data: bytes) -> Any:
    """Parse JSON with items of many authors, such as a list of objects: one that is nested beyond
    the parser's limit does not fail the others. It stays too deep to be accepted.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return from_json(data, cache_strings="keys")  # In half of json's time.
    except ValueError:
        return from_json(shallow(data), cache_strings="keys")


def shallow(data: bytes) -> bytes:
    """JSON with all arrays and objects that are nested more than 150 deep replaced by null."""
    kept: list[bytes] = []
    depth = start = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth == _SHALLOW + 1:
                kept += (data[start : token.start()], b"null")
        elif first in b"]}":
            depth -= 1
            if depth == _SHALLOW:
                start = token.end()
    return b"".join(kept) + data[start:] if depth <= _SHALLOW else data


def numbers(value: Any) -> Iterator[float]:
    """All floats in an output before encoding: encoders write NaN as null."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, float):
            yield node
        elif isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)
        elif hasattr(node, "__dataclass_fields__"):
            stack.extend(getattr(node, name, None) for name in node.__dataclass_fields__)
        elif isinstance(node, Enum):
            stack.append(node.value)


def outside_texts(content: bytes) -> Iterator[bytes]:
    """The parts of JSON outside of strings, in pieces, as each holds the GIL."""
    within = False
    escape = b""
    for start in range(0, len(content), _PIECE):
        piece = escape + content[start : start + _PIECE]
        escape = b"\\" if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
        piece = piece.removesuffix(escape)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[within::2])
        within ^= len(parts) % 2 == 0


def _members(node: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> Iterable[Any]:
    if not isinstance(node, dict):
        return node
    for key in node:
        if not isinstance(key, str):
            raise Unacceptable(f"has the key {str(key)[:100]!r}, which is no text")
        _check_scalar(key)
    return node.values()


def _check_scalar(node: Any) -> None:
    if isinstance(node, str):
        if "\0" in node:
            raise Unacceptable("holds the character U+0000")
        if not is_text(node):
            raise Unacceptable("holds half of a surrogate pair, which is no character")
    elif isinstance(node, float):
        if not math.isfinite(node):
            raise Unacceptable(f"holds {node}, which is no number of JSON")
    elif isinstance(node, int):
        _check_integer(node)
    elif node is not None:
        raise Unacceptable(f"holds a {type(node).__name__}, which JSON does not have")


def _check_integer(node: int) -> None:
    if not MIN_INTEGER <= node <= MAX_INTEGER:
        raise Unacceptable("holds an integer of more than 64 bits")
