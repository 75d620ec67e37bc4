"""Which prompts a forward takes, and how batches form. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from inference_runner.engines.text_generation import prefill
from inference_runner.engines.text_generation.batches import Batches


@dataclass(eq=False)
class One:
    missing: int
    length: int = 0


def chosen(lengths: list[int], budget: int = 100, *, oldest: bool = False) -> list[int]:
    return [one.missing for one in prefill.group([One(n) for n in lengths], budget, oldest=oldest)]


@pytest.mark.parametrize(
    ("lengths", "oldest", "expected"),
    [
        ([2500, *[6] * 15], False, [6] * 15),
        ([2500, *[6] * 15], True, [2500]),
        ([30, 31, 30, 29], False, [29, 30, 30]),
        ([30, 90, 40], True, [30, 40]),
        ([100, 1], False, [1]),
        ([101], False, [101]),
        ([60, 50], True, [60]),
    ],
)
def test_a_forward_is_bounded_and_pads_little(
    lengths: list[int], oldest: bool, expected: list[int]
) -> None:
    assert chosen(lengths, oldest=oldest) == expected


def test_a_prompt_that_is_there_in_part_goes_on_alone() -> None:
    half, other = One(20, length=100), One(20)
    assert prefill.group([half, other], 100, oldest=True) == [half]
    assert prefill.group([other, half], 100, oldest=True) == [other]


def test_nobody_waits_for_ever() -> None:
    """One long prompt, while short ones keep coming."""
    turns, long = prefill.PrefillTurns(), One(250)
    chunks = 0
    for _ in range(10):
        waiting = [long, One(5)]
        if prefill.group(waiting, 100, oldest=turns.oldest()) == [long]:
            chunks += 1
    assert chunks == 5


def test_prompts_take_no_more_time_than_tokens() -> None:
    turns = prefill.PrefillTurns()
    turns.had_prompts(9.0, somebody_waited=False)
    assert turns.is_prompts
    turns.had_prompts(0.2, somebody_waited=True)
    for _ in range(3):
        turns.had_tokens(0.05)
        assert not turns.is_prompts
    turns.had_tokens(0.06)
    assert turns.is_prompts
    turns.had_tokens(9.0)
    turns.had_prompts(0.1, somebody_waited=True)
    assert not turns.is_prompts


@dataclass(eq=False)
class Row:
    length: int
    done: bool = False


@dataclass
class Layer:
    keys: torch.Tensor
    values: torch.Tensor


@dataclass
class Cache:
    layers: list[Layer]


def batches(worth: int, *lengths: int) -> Batches[Row]:
    made: Batches[Row] = Batches(worth)
    for length in lengths:
        states = torch.full((1, 1, length, 1), float(length))
        made.add([Row(length)], Cache([Layer(states, states)]))
    return made


def shapes(made: Batches[Row]) -> list[list[int]]:
    for batch in made:
        for layer in batch.cache.layers:
            assert layer.keys.shape[0] == len(batch.rows)
            assert layer.keys.shape[-2] == batch.length
            last = layer.keys[:, 0, -1, 0].tolist()
            assert last == [row.length for row in batch.rows]
    return [sorted(row.length for row in batch.rows) for batch in made]


@pytest.mark.parametrize(
    ("worth", "expected"),
    [(0, [[5, 5], [90], [100]]), (10, [[5, 5], [90, 100]]), (1000, [[5, 5, 90, 100]])],
)
def test_rows_share_a_batch_where_padding_costs_less(worth: int, expected: list[list[int]]) -> None:
    assert shapes(batches(worth, 100, 5, 90, 5)) == expected


def test_the_cache_shrinks_with_its_rows() -> None:
    made = batches(1000, 100, 5, 90)
    made.keep(lambda row: row.length != 100)
    assert shapes(made) == [[5, 90]]
    made.keep(lambda row: False)
    assert not made
