"""What a step takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from inference_runner.engines.text_generation import schedule
from inference_runner.engines.text_generation.graphs import chunk_within, length_bucket, rows_bucket
from inference_runner.engines.text_generation.schedule import Pace


@dataclass(eq=False)
class One:
    missing: int


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], []),
        ([30], [(30, 30)]),
        ([250], [(250, 100)]),
        ([2500, *[6] * 15], [(2500, 50), *[(6, 6)] * 8, (6, 2)]),
        ([2500, 20], [(2500, 80), (20, 20)]),
        ([30, 90, 40], [(30, 30), (40, 40), (90, 30)]),
        ([30, 31, 30], [(30, 39 - 9), (30, 30), (31, 31)]),
        ([60, 50], [(60, 50), (50, 50)]),
        ([500, 400], [(500, 50), (400, 50)]),
    ],
)
def test_the_oldest_gets_half_and_the_shortest_the_rest(
    missing: list[int], expected: list[tuple[int, int]]
) -> None:
    found = schedule.chunks([One(tokens) for tokens in missing], 100)
    assert [(one.missing, tokens) for one, tokens in found] == expected


def test_a_budget_of_one_is_the_oldest_ones() -> None:
    old, new = One(5), One(1)
    assert schedule.chunks([old, new], 1) == [(old, 1)]


def test_while_nobody_writes_prompts_get_all() -> None:
    pace = Pace(most=512, step_seconds=1e-9, token_seconds=1.0)
    assert pace.budget(is_generating=False) == 512


@pytest.mark.parametrize(
    ("step", "token", "expected"),
    [(0.02, 0.0002, 100), (0.02, 0.01, 32), (0.02, 1e-6, 512), (0.02, 0.0, 32)],
)
def test_a_step_with_a_newcomer_takes_about_two(step: float, token: float, expected: int) -> None:
    pace = Pace(most=512, step_seconds=step, token_seconds=token)
    assert pace.budget(is_generating=True) == expected


def test_the_pace_is_measured() -> None:
    pace = Pace(most=512)
    pace.took(0.02, 0, is_generating=True)
    assert pace.step_seconds == 0.02
    pace.took(0.5, 3, is_generating=True)  # too few to tell
    assert pace.token_seconds == 0
    pace.took(0.12, 100, is_generating=True)
    assert pace.token_seconds == pytest.approx(0.001)
    pace.took(0.2, 100, is_generating=False)
    assert pace.token_seconds == pytest.approx(0.0012)
    pace.took(9.0, 0, is_generating=True)
    assert pace.step_seconds == pytest.approx(0.024)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([5, 5, 5], [[0, 1, 2]]),
        ([400, 5, 6, 390], [[1, 2], [3, 0]]),
        ([1, 18, 19], [[0, 1], [2]]),
        ([100, 216, 217], [[0, 1], [2]]),
    ],
)
def test_what_is_padded_together_is_alike(lengths: list[int], expected: list[list[int]]) -> None:
    assert schedule.alike(lengths) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(1, 1024), (1024, 1024), (1025, 2048), (2049, 4096), (5000, 5000), (4500, 5000)],
)
def test_slots_double(tokens: int, expected: int) -> None:
    assert schedule.capacity(tokens, 1024, 5000) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 0), ("abc", "abd", 2), ("abc", "abc", 3), ("abc", "ab", 2), ("x", "abc", 0)],
)
def test_how_much_two_begin_with(one: str, other: str, expected: int) -> None:
    tokens = [list(map(ord, text)) for text in (one, other)]
    assert schedule.shared_prefix(*tokens) == expected


def test_sizes_of_graphs_are_few_and_waste_little() -> None:
    assert sorted({rows_bucket(n) for n in range(1, 129)}) == [
        1,
        2,
        4,
        8,
        16,
        24,
        32,
        48,
        64,
        96,
        128,
    ]
    assert all(rows_bucket(n) >= n for n in range(1, 129))
    assert [chunk_within(n) for n in (1, 64, 127, 300, 9000)] == [64, 64, 64, 256, 512]
    lengths = range(1, 4097)
    assert sorted({length_bucket(n) for n in lengths}) == [
        256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096
    ]  # fmt: skip
    assert all(length_bucket(n) >= n for n in lengths)
