"""The models of a campaign: their output depends on the input only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any


class Quick:
    """Upper case, in batches."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[str]:
        time.sleep(0.02)
        return [inputs["text"].upper() for inputs in batch]

    def predict(self, inputs: dict[str, Any]) -> str:
        return self.predict_batch([inputs])[0]


class Story:
    """The words of the text, one at a time."""

    def predict(self, inputs: dict[str, Any]) -> Iterator[str]:
        for word in inputs["text"].split():
            time.sleep(0.02)
            yield word


class Moody:
    """Behaves as its input says."""

    def predict(self, inputs: dict[str, Any]) -> Any:
        text = inputs["text"]
        match inputs["do"]:
            case "raise":
                raise ValueError(text)
            case "interrupt":
                raise KeyboardInterrupt(text)
            case "nan":
                return {"value": float("nan")}
            case "deep":
                return _nested(300)
            case "print":
                print(text)
            case "grow":
                return text * 3000
            case "hang":
                time.sleep(60)
            case "die":
                os._exit(1)
        return text.upper()


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
