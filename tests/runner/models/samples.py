"""Custom classes for the runner's tests: good ones and bad ones."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


OUTPUTS = {
    "not-json": {"a": object()},
    "large": "x" * 10_000_001,
    "nan": {"score": [float("nan")]},
    "deep": nested(65),
    "endless": nested(300),
    "nul": {"a": "b\0"},
    "half": ["\ud800"],
}
"""What to return that is no output."""


class Actor:
    """Does what `do` says, one input at a time."""

    def predict(self, inputs: dict[str, Any]) -> Any:
        match inputs["do"]:
            case "raise":
                raise ValueError("I will not")
            case "exit":
                sys.exit(7)
            case "hang":
                time.sleep(3600)
            case "sleep":
                time.sleep(inputs["seconds"])
            case "refuse":
                from inference_runner.engines.base import InputError

                raise InputError("text must rhyme")
            case "print":
                print("noise on stdout")
                os.write(2, b"noise on stderr\n")
        return OUTPUTS.get(inputs["do"], inputs["do"])


class Batch(Actor):
    """The same for a batch; remembers the sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        self.sizes.append(len(batch))
        return [self.predict(inputs) for inputs in batch]


class Stubborn:
    """Does not stop."""

    def predict(self, inputs: dict[str, Any]) -> Any:
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                continue


class StubbornBatch(Stubborn):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return [self.predict(inputs) for inputs in batch]


class Miscounts(Batch):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return ["only one"]


class Counter:
    """Streams numbers."""

    def predict(self, inputs: dict[str, Any]) -> Iterator[int]:
        for number in range(inputs["to"]):
            time.sleep(inputs.get("pause", 0))
            yield number
        if inputs.get("raise"):
            raise ValueError("no more numbers")


class RaisesInLoad:
    def load(self) -> None:
        raise RuntimeError("the weights are made of cheese")

    def predict(self, inputs: dict[str, Any]) -> str:
        return ""


class HangsInLoad(RaisesInLoad):
    def load(self) -> None:
        time.sleep(3600)


class NoPredict:
    pass


class TakesParameters:
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    def predict(self, inputs: dict[str, Any]) -> int:
        return self.factor * int(inputs["number"])
