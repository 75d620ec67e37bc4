"""Predictions of callers, and their correct ends. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WORDS = ("row", "stored", "before", "anybody", "hears", "of", "it", "ends", "once", "and", "only")
GROWTH = 3000
"""As in victims.Moody."""


@dataclass(frozen=True)
class End:
    """How a prediction has ended."""

    status: str
    output: Any = None
    error_code: str | None = None


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    weight: int
    right: Callable[[str, End], bool]
    """Whether this is the end of a prediction with that text, while nothing goes wrong."""
    do: str | None = None
    cancel_after: str | None = None

    def input(self, text: str) -> dict[str, str]:
        return {"text": text} if self.do is None else {"text": text, "do": self.do}


def _upper(text: str, end: End) -> bool:
    return end.status == "succeeded" and end.output == text.upper()


def _words(text: str, end: End) -> bool:
    return end.status == "succeeded" and end.output == text.split()


def _failed(code: str) -> Callable[[str, End], bool]:
    return lambda _text, end: end.status == "failed" and end.error_code == code


def _grown(text: str, end: End) -> bool:
    return end.status == "succeeded" and end.output == text * GROWTH


def _late(_text: str, end: End) -> bool:
    return end.status in {"failed", "canceled"}


CASES = (
    Case("quick", "quick", 50, _upper),
    Case("story", "story", 15, _words),
    Case("print", "moody", 8, _upper, do="print"),
    Case("raise", "moody", 6, _failed("model_error"), do="raise"),
    Case("interrupt", "moody", 4, _failed("model_error"), do="interrupt"),
    Case("not a number", "moody", 4, _failed("invalid_output"), do="nan"),
    Case("deep", "moody", 4, _failed("invalid_output"), do="deep"),
    Case("grow", "moody", 5, _grown, do="grow"),
    Case("late", "slow", 2, _late, do="hang", cancel_after="1s"),
    Case("hang", "slow", 1, _failed("prediction_timeout"), do="hang"),
    Case("die", "doomed", 1, _failed("runner_crashed"), do="die"),
)
BY_NAME = {case.name: case for case in CASES}


def draw(chance: random.Random) -> Case:
    return chance.choices(CASES, weights=[case.weight for case in CASES])[0]


def text(number: int, chance: random.Random) -> str:
    """Different for every prediction, so that the answer to another one is detected."""
    return " ".join([f"n{number}", *chance.choices(WORDS, k=chance.randint(2, 10))])
