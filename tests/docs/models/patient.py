"""A model whose predictions end when somebody says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from inference_runner.engines.base import BaseInferenceModel


class Patient(BaseInferenceModel):
    def load(self) -> None:
        pass

    def predict(self, inputs: dict[str, Any]) -> str:
        """Waits until there is the file that the input names, if it names one."""
        while inputs["until"] and not Path(inputs["until"]).exists():
            time.sleep(0.02)
        return str(inputs["text"]).upper()

    def unload(self) -> None:
        pass
