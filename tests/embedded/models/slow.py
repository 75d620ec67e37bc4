"""An echo that takes its time: long enough to be killed in the middle of it."""

import time
from typing import Any


class Slow:
    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def load(self) -> None:
        pass

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[str]:
        time.sleep(self.seconds)
        return [inputs["text"].upper() for inputs in batch]

    def predict(self, inputs: dict[str, Any]) -> str:
        return self.predict_batch([inputs])[0]
