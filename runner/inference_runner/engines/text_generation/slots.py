"""Assigns slots of the cache to sequences, and keeps the tokens of free slots.

The sequences in generation have the first slots, so that attention needs only one view of the
cache. A free slot keeps its tokens until the slot is needed: a sequence with the same prefix reuses
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from inference_runner.engines.text_generation import schedule

SHORTEST_PREFIX = 16
"""Shortest prefix to reuse, in tokens."""


class Row(Protocol):
    slot: int
    length: int
    """Its tokens in the cache."""

    @property
    def prompt(self) -> list[int]: ...
    @property
    def tokens(self) -> list[int]:
        """The tokens of its prompt and of its output."""
        ...

    @property
    def room(self) -> int:
        """Most tokens that it may have."""
        ...

    @property
    def is_writing(self) -> bool:
        """Whether its whole prompt is in the cache."""
        ...


S = TypeVar("S", bound=Row)


class Cache(Protocol):
    """The cache: `SlotCache`, or a list in a test."""

    tokens: int
    capacity: int

    @property
    def count(self) -> int: ...
    def lay_out(self, capacity: int) -> None: ...
    def grow(self, capacity: int, lengths: list[int]) -> None: ...
    def copy(self, source: int, target: int, length: int) -> None: ...
    def swap(self, one: int, length: int, other: int, other_length: int) -> None: ...
    def clear(self, slot: int) -> None: ...


class Slots(Generic[S]):
    """
    Args:
        longest: most tokens of a sequence; the cache has space for at least as many.
    """

    def __init__(self, cache: Cache, longest: int) -> None:
        self._cache, self._longest = cache, longest
        self._smallest = cache.capacity
        self._forget()

    def _forget(self) -> None:
        count = self._cache.count
        self._rows: list[S | None] = [None] * count
        self._kept: list[list[int]] = [[] for _ in range(count)]
        """The tokens whose keys and values are in each free slot."""
        self._left = [0] * count
        """When each slot became free; 0: never used."""
        self._leavings = 0

    def __iter__(self) -> Iterator[S]:
        return (row for row in self._rows if row is not None)

    def admit(self, row: S) -> int | None:
        """Give it a slot. Returns the number of its prompt's tokens that are in the slot already,
        which becomes its length; None: no slot is free until a sequence leaves."""
        if not self._fits(row.room):
            return None
        free = [slot for slot, held_by in enumerate(self._rows) if held_by is None]
        if not free:
            return None
        source, shared = self._best_prefix(row.prompt)
        mostly = shared and 2 * shared >= self._length(source)
        if source in free and (mostly or len(free) == 1):
            slot = source
        else:
            others = [one for one in free if one != source] or free
            slot = min(others, key=lambda one: (self._left[one], one))
            if shared:
                self._cache.copy(source, slot, shared)
        self._kept[slot] = []
        self._rows[slot], row.slot, row.length = row, slot, shared
        return shared

    def leave(self, row: S, *, sound: bool = True) -> None:
        """
        Args:
            sound: whether others may reuse its keys and values.
        """
        self._leavings += 1
        self._rows[row.slot], self._left[row.slot] = None, self._leavings
        if sound:
            self._kept[row.slot] = row.tokens[: row.length]
        else:
            self._cache.clear(row.slot)

    def arrange(self) -> list[S]:
        """Move the sequences in generation to the first slots; returns them in order of slots."""
        writing = [row for row in self if row.is_writing]
        first = range(len(writing))
        holes = [slot for slot in first if not self._is_writing(slot)]
        for row, hole in zip([r for r in writing if r.slot not in first], holes, strict=True):
            self._swap(row.slot, hole)
        return [row for row in self._rows[: len(writing)] if row is not None]

    def _is_writing(self, slot: int) -> bool:
        row = self._rows[slot]
        return row is not None and row.is_writing

    def _held(self, slot: int) -> list[int]:
        row = self._rows[slot]
        return self._kept[slot] if row is None else row.tokens[: row.length]

    def _length(self, slot: int) -> int:
        row = self._rows[slot]
        return len(self._kept[slot]) if row is None else row.length

    def _swap(self, one: int, other: int) -> None:
        length, other_length = self._length(one), self._length(other)
        if self._rows[other] is not None or other_length >= SHORTEST_PREFIX:
            self._cache.swap(one, length, other, other_length)
        else:
            self._cache.copy(one, other, length)
            self._kept[other] = []
        for lists in (self._rows, self._kept, self._left):
            both: list[object] = lists  # type: ignore[assignment]  # of three kinds
            both[one], both[other] = both[other], both[one]
        for slot in (one, other):
            row = self._rows[slot]
            if row is not None:
                row.slot = slot

    def _best_prefix(self, prompt: list[int]) -> tuple[int, int]:
        """The slot with the longest common prefix with a prompt, and its length: at most all tokens
        but the last, whose scores are needed."""
        best, most = 0, 0
        head = prompt[:SHORTEST_PREFIX]
        for slot, held in enumerate(map(self._held, range(len(self._rows)))):
            if held[:SHORTEST_PREFIX] == head:
                shared = schedule.shared_prefix(held, prompt[:-1])
                if shared > most:
                    best, most = slot, shared
        return (best, most) if most >= SHORTEST_PREFIX else (0, 0)

    def _fits(self, room: int) -> bool:
        """Whether slots are long enough; enlarges them if possible."""
        active = list(self)
        cache = self._cache
        if not active and cache.capacity > self._smallest and room <= self._smallest:
            cache.lay_out(self._smallest)
            self._forget()
        if room <= cache.capacity:
            return True
        capacity = schedule.capacity(room, self._smallest, self._longest)
        if len(active) >= cache.tokens // capacity:
            return False
        for target, row in enumerate(active):
            if row.slot != target:
                self._swap(row.slot, target)
        cache.grow(capacity, [row.length for row in active])
        self._forget()
        self._rows[: len(active)] = active
        return True
