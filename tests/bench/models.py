"""Custom models of the benchmark."""

from __future__ import annotations

import threading
from typing import Any

from inference_runner.engines.base import BaseInferenceModel


class Echo(BaseInferenceModel):
    """Does nothing, so that what is measured is everything else."""

    def load(self) -> None:
        pass

    def predict(self, inputs: dict[str, Any]) -> Any:
        return inputs["text"]

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return [inputs["text"] for inputs in batch]


class Paused(Echo):
    """Never becomes ready: its queue only grows."""

    def load(self) -> None:
        threading.Event().wait()
