"""Limits each model's share of a batch: on a cluster runners count as hostile, and may write any
number of entries of any size.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from inference_gateway.redis.bounded_reader import MAX_ENTRIES

MAX_COUNT = 500
"""Small entries of one stream that are read at once."""
_PORTION_BYTES = 1_000_000
"""Bytes of one model in one batch, unless a single entry is larger."""
_BATCH_BYTES = 8_000_000
"""Bytes of all models that exceed their portion."""
_FIELD_BYTES = 100
"""Overhead of a field of an entry."""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
Read = Mapping[bytes, Entries]
"""Entries by stream."""


class Portion(NamedTuple):
    stream: bytes
    entries: Entries
    size: int
    """Approximate bytes."""
    is_whole: bool
    """Whether these are all entries that were read."""


def portions(read: Read) -> list[Portion]:
    """The entries to record now: all of models with few bytes, and a part of some others."""
    found = [_portion(stream, entries) for stream, entries in read.items()]
    chosen = [one for one in found if one.is_whole and one.size <= _PORTION_BYTES]
    large = [one for one in found if not one.is_whole or one.size > _PORTION_BYTES]
    random.shuffle(large)
    room = _BATCH_BYTES
    for one in large:
        if room > 0:
            chosen.append(one)
        room -= one.size
    return chosen


def _portion(stream: bytes, entries: Entries) -> Portion:
    size = 0
    for number, (_, fields) in enumerate(entries):
        more = _size(fields)
        if number and size + more > _PORTION_BYTES:
            return Portion(stream, entries[:number], size, False)
        size += more
    return Portion(stream, entries, size, True)


def _size(fields: Mapping[bytes, bytes]) -> int:
    size = 0
    for name, value in fields.items():
        size += len(name) + len(value) + _FIELD_BYTES
    return size


class Part(NamedTuple):
    """Streams to read, and how many entries of each."""

    keys: Set[str]
    most: int


def _most(keys: Set[str]) -> int:
    return max(1, min(MAX_COUNT, MAX_ENTRIES // max(len(keys), 1)))


class Counts:
    """How many entries to read: fewer from streams with large entries."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        """By model key; models that are read at the maximum are left out."""

    def least(self, keys: Set[str]) -> int:
        counts = (count for key, count in self._known.items() if key in keys)
        return min([*counts, _most(keys)])

    def parts(self, keys: Set[str]) -> Sequence[Part]:
        """A few entries of all streams first, then more of those with small entries."""
        first = Part(keys, self.least(keys))
        others = keys - self._known.keys()
        if first.most == _most(keys) or not others:
            return [first]
        return [first, Part(others, _most(others))]

    def learn(self, read: Iterable[tuple[str, Entries]], known: Set[str]) -> None:
        """Args:
        read: by model key.
        known: all models; the others are forgotten.
        """
        if self._known:
            self._known = {key: n for key, n in self._known.items() if key in known}
        for key, entries in read:
            average = sum(_size(fields) for _, fields in entries) / len(entries)
            count = int(_PORTION_BYTES / max(average, 1))
            if count >= MAX_COUNT:
                self._known.pop(key, None)
            else:
                self._known[key] = max(1, count)
