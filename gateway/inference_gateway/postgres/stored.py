"""How psycopg2 reads stored values: an odd value must not fail the query of other rows.

The API limits values (`inference_contract.values`), but PostgreSQL may hold others: a row may be
older than a limit, or written by psql.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg2 import extensions, extras

from inference_contract import values

_LARGE = 65_536


def decode(text: str) -> Any:
    """Decode a jsonb value. One outside the contract's limits becomes an `orjson.Fragment`, which
    orjson writes unchanged.

    jsonb writes the float 1e30 as an integer of 31 digits. orjson reads it as the same float,
    `json` as an integer that most clients cannot read."""
    try:
        if len(text) > _LARGE and text[0] == '"':
            return "".join(_pieces(text))
        value = orjson.loads(text)
        if text.count("[") + text.count("{") > values.MAX_DEPTH:
            values.check(value)
    except ValueError:
        return orjson.Fragment(text)
    return value


def _pieces(text: str) -> Iterator[str]:
    """Pieces of a large text: decoding one holds the GIL. Raises ValueError."""
    start, last = 1, len(text) - 1
    while start < last:
        end = min(start + _LARGE, last)
        escape = text.rfind("\\", max(start, end - 5), end)
        if escape >= 0:
            before = text[start : escape + 1]
            if (len(before) - len(before.rstrip("\\"))) % 2:  # Otherwise the quote is escaped.
                end = max(end, escape + (6 if text[escape + 1] == "u" else 2))
        yield orjson.loads(f'"{text[start:end]}"')
        start = end


_BRACKETS = b"[]{}"
_ALL_OTHERS = bytes(set(range(256)) - set(_BRACKETS))


def passed_on(text: bytes | None) -> Any:
    """A jsonb value that is only passed on: a large one stays as bytes, which take a twentieth of
    memory and time. (In a str with one emoji every character takes four bytes.)"""
    if text is None:
        return None
    if len(text) <= _LARGE:
        return decode(as_text(text))
    if is_shallow(text) or not _is_too_deep(text):
        return PassedOn(text)
    return orjson.Fragment(text)


def as_text(content: bytes) -> str:
    """Decode in pieces: decoding one holds the GIL."""
    starts = range(0, len(content), _LARGE)
    return "".join(
        codecs.iterdecode((content[start : start + _LARGE] for start in starts), "utf-8")
    )


def is_shallow(text: bytes) -> bool:
    """Whether it is certainly no deeper than a value may be; brackets in texts count too.

    In pieces: searching one holds the GIL.
    """
    if text.startswith(b'"'):
        return True
    opened = b""
    for start in range(0, len(text), _LARGE):
        brackets = text[start : start + _LARGE].translate(None, _ALL_OTHERS)
        depth, opened = len(opened), opened + brackets
        for _ in range(values.MAX_DEPTH + 1 - depth):
            matched = opened.replace(b"[]", b"").replace(b"{}", b"")
            if len(matched) == len(opened):
                break
            opened = matched
        else:
            return False
        if len(opened) > values.MAX_DEPTH:
            return False
    return not opened


def _is_too_deep(text: bytes) -> bool:
    """The exact depth check; a thousand times slower than `is_shallow`."""
    depth = 0
    for outside in values.outside_texts(text):
        for bracket in outside.translate(None, _ALL_OTHERS):
            depth += 1 if bracket in b"[{" else -1
            if depth > values.MAX_DEPTH:
                return True
    return False


def is_value(column: Any) -> bool:
    """Whether a column's content is a Python value, not a fragment for orjson."""
    return not isinstance(column, orjson.Fragment)


class PassedOn:
    """A large value as its JSON; see `in_pieces`."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


def as_json(value: object) -> orjson.Fragment:
    """`orjson.dumps(…, default=as_json)` joins them, on a thread. Raises TypeError."""
    if isinstance(value, PassedOn):
        return orjson.Fragment(value.content)
    raise TypeError(f"{type(value).__name__} is no JSON")


_PLACE = b"\0"
"""Placeholder of a value that is passed on: this byte does not occur in JSON."""


def in_pieces(value: object) -> list[bytes]:
    """JSON in pieces that are not joined, as joining takes as long as reading a large value.

    Raises:
        TypeError: the value cannot be written as JSON.
    """
    large: list[bytes] = []

    def put(part: object) -> orjson.Fragment:
        if not isinstance(part, PassedOn):
            return as_json(part)
        large.append(part.content)
        return orjson.Fragment(_PLACE)

    content = orjson.dumps(value, default=put)
    if not large:
        return [content]
    first, *others = content.split(_PLACE)
    return [first, *itertools.chain.from_iterable(zip(large, others, strict=True))]


def moment(text: Any, cursor: Any) -> datetime | None:
    """A timestamptz; outside of Python's range its first or last moment."""
    try:
        found: datetime | None = extensions.PYDATETIMETZ(text, cursor)
    except (ValueError, OverflowError):
        return _FIRST if text is not None and (text.endswith("BC") or text[0] == "-") else _LAST
    if found is not None and found.tzinfo is None:  # infinity, either
        return _FIRST if found.year == 1 else _LAST
    return found


_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_TIMESTAMPTZ = 1184
_BPCHAR = 1042
"""OIDs of PostgreSQL's types. No column has bpchar: values cast to it are read as bytes."""


def register() -> None:
    """For every connection of this process."""
    extras.register_default_jsonb(globally=True, loads=decode)
    extras.register_default_json(globally=True, loads=decode)
    extensions.register_type(extensions.new_type((_TIMESTAMPTZ,), "TIMESTAMPTZ", moment))
    extensions.string_types[_BPCHAR] = extensions.BYTES
