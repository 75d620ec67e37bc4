"""How much of a batch is each model's: on a cluster its runners are hostile, and may write entries
as many and as large as they like.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from inference_gateway.redis.bounded_reader import MAX_ENTRIES

MAX_COUNT = 500
"""Entries of one stream that are asked for at once, if they are small."""
_PORTION_BYTES = 1_000_000
"""Of one model in one batch, unless a single entry is larger."""
_BATCH_BYTES = 8_000_000
"""Of all models that have more than fits into their portions."""
_FIELD_BYTES = 100
"""What a field of an entry costs beside its text."""

Entries = list[tuple[bytes, dict[bytes, bytes]]]
Read = Mapping[bytes, Entries]
"""By stream."""


class Portion(NamedTuple):
    stream: bytes
    entries: Entries
    size: int
    """Bytes, roughly."""
    is_whole: bool
    """There is no more than this."""


def portions(read: Read) -> list[Portion]:
    """What is recorded now: all of those who have little, and something of some others."""
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
    """Streams that are asked for so many entries each."""

    keys: Set[str]
    most: int


def _most(keys: Set[str]) -> int:
    return max(1, min(MAX_COUNT, MAX_ENTRIES // max(len(keys), 1)))


class Counts:
    """How many entries are asked for: fewer of the streams whose entries are large."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        """By model key; without those of which as many as can be are asked for."""

    def least(self, keys: Set[str]) -> int:
        counts = (count for key, count in self._known.items() if key in keys)
        return min([*counts, _most(keys)])

    def parts(self, keys: Set[str]) -> Sequence[Part]:
        """Some of all, so that nobody has to be waited for; and then more of the others."""
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
