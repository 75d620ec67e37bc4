"""A custom engine: copy this file, name your class in `engine.className`, and fill in `predict`.

The class needs nothing but `predict`; the other methods are optional. It may derive from
`inference_runner.engines.base.BaseInferenceModel`, so that an editor knows the methods.
"""

from __future__ import annotations

from typing import Any


class Echo:
    """Gives back its text.

    The arguments of `__init__` come from `engine.parameters` of the model's document.
    """

    def __init__(self, upper: bool = False) -> None:
        self.upper = upper

    def load(self) -> None:
        """Called once: load weights here. What it raises is shown as the reason of LoadFailed."""

    def predict(self, inputs: dict[str, Any]) -> str:
        """One input to one output, which can be anything that JSON holds. To stream, `yield`."""
        text = str(inputs["text"])
        return text.upper() if self.upper else text

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[str]:
        """Several inputs at once, at most `batching.maxBatchSize`: as many outputs, in order."""
        return [self.predict(inputs) for inputs in batch]
