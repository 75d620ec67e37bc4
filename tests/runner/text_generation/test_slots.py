"""Who has which slot, and what is moved, against a cache that is lists of tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from inference_runner.engines.text_generation.slots import Slots

EMPTY = -1


class Cache:
    """As the real one: what is not moved is lost, what is not written is not there."""

    def __init__(self, tokens: int, capacity: int) -> None:
        self.tokens = tokens
        self.cells = [EMPTY] * tokens
        self.lay_out(capacity)

    @property
    def count(self) -> int:
        return self.tokens // self.capacity

    def lay_out(self, capacity: int) -> None:
        self.capacity = capacity

    def grow(self, capacity: int, lengths: list[int]) -> None:
        held = [self.part(slot, length) for slot, length in enumerate(lengths)]
        self.cells = [EMPTY] * self.tokens
        self.lay_out(capacity)
        for slot, tokens in enumerate(held):
            self.put(slot, 0, tokens)

    def copy(self, source: int, target: int, length: int) -> None:
        self.put(target, 0, self.part(source, length))

    def swap(self, one: int, length: int, other: int, other_length: int) -> None:
        held = self.part(other, other_length)
        self.copy(one, other, length)
        self.put(one, 0, held)

    def clear(self, slot: int) -> None:
        self.put(slot, 0, [EMPTY] * self.capacity)

    def part(self, slot: int, length: int) -> list[int]:
        return self.cells[slot * self.capacity : slot * self.capacity + length]

    def put(self, slot: int, at: int, tokens: list[int]) -> None:
        assert at + len(tokens) <= self.capacity
        first = slot * self.capacity + at
        self.cells[first : first + len(tokens)] = tokens


@dataclass(eq=False)
class Row:
    prompt: list[int]
    new: int = 4
    length: int = 0
    said: list[int] = field(default_factory=list)
    slot: int = -1

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.said

    @property
    def room(self) -> int:
        return len(self.prompt) + self.new

    @property
    def is_writing(self) -> bool:
        return bool(self.said)


def read(cache: Cache, row: Row) -> None:
    """Its whole prompt, and its first token."""
    cache.put(row.slot, row.length, row.prompt[row.length :])
    row.length = len(row.prompt)
    row.said.append(1000)


def prompt(count: int, first: int = 0) -> list[int]:
    return list(range(first, first + count))


def test_those_that_write_have_the_first_slots_whoever_comes_and_goes() -> None:
    dice = random.Random(1)
    cache = Cache(40 * 64, 64)
    slots: Slots[Row] = Slots(cache, 600)
    rows: list[Row] = []
    reused = 0
    for _ in range(2000):
        what = dice.random()
        if what < 0.4:
            same = prompt(dice.choice([20, 40]), dice.choice([0, 100, 200]))
            row = Row(same + prompt(dice.randint(1, 8), dice.randint(500, 900)))
            row.new = dice.choice([4, 4, 4, 10, 90, 300])
            found = slots.admit(row)
            if found is not None:
                rows.append(row)
                reused += found
        elif what < 0.6 and rows:
            slots.leave(rows.pop(dice.randrange(len(rows))), sound=dice.random() < 0.9)
        writing = slots.arrange()
        assert [row.slot for row in writing] == list(range(len(writing)))
        assert {id(row) for row in slots} == {id(row) for row in rows}
        for row in rows:
            assert row.slot < cache.count
            assert cache.part(row.slot, row.length) == row.tokens[: row.length]
        for row in rows:
            if not row.is_writing and dice.random() < 0.5:
                read(cache, row)
            elif row.is_writing and row.length < row.room - 1:
                cache.put(row.slot, row.length, [row.said[-1]])
                row.length += 1
                row.said.append(dice.randint(1001, 1999))
    assert reused > 1000


def test_full_means_that_newcomers_wait() -> None:
    slots: Slots[Row] = Slots(Cache(32, 16), 32)
    first, second, third = Row([1]), Row([2]), Row([3])
    assert [slots.admit(row) for row in (first, second, third)] == [0, 0, None]
    slots.leave(first)
    assert slots.admit(third) == 0


def test_a_long_one_waits_until_its_slot_fits_beside_the_others() -> None:
    slots: Slots[Row] = Slots(Cache(32, 8), 32)
    small = [Row([n]) for n in range(3)]
    for row in small:
        slots.admit(row)
    long = Row([9], new=15)
    assert slots.admit(long) is None
    slots.leave(small[0])
    assert slots.admit(long) is None
    slots.leave(small[2])
    assert slots.admit(long) == 0
    assert sorted([small[1].slot, long.slot]) == [0, 1]


@pytest.mark.parametrize(("shared", "expected"), [(15, 0), (16, 16), (30, 30)])
def test_a_prefix_is_taken_over_from_16_tokens_on(shared: int, expected: int) -> None:
    cache = Cache(640, 64)
    slots: Slots[Row] = Slots(cache, 64)
    one, other = Row(prompt(40)), Row(prompt(shared) + prompt(9, 500))
    slots.admit(one)
    read(cache, one)
    assert slots.admit(other) == expected
    assert cache.part(other.slot, expected) == prompt(expected)


def test_what_has_left_is_a_prefix_still_and_its_last_token_is_read_again() -> None:
    cache = Cache(640, 64)
    slots: Slots[Row] = Slots(cache, 64)
    one, other = Row(prompt(40)), Row(prompt(40))
    slots.admit(one)
    read(cache, one)
    slots.leave(one)
    assert slots.admit(other) == 39


def test_what_failed_is_nobodys_prefix() -> None:
    cache = Cache(640, 64)
    slots: Slots[Row] = Slots(cache, 64)
    one, other = Row(prompt(40)), Row(prompt(40))
    slots.admit(one)
    read(cache, one)
    slots.leave(one, sound=False)
    assert slots.admit(other) == 0
    assert set(cache.cells) == {EMPTY}
