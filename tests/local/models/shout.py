"""A model for the command line's tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


class Shout:
    def load(self) -> None:
        pass

    def predict(self, input: Mapping[str, Any]) -> Any:
        if input["text"] == "sleep":
            time.sleep(2)
        if input["text"] == "fail":
            raise ValueError("no voice today")
        return input["text"].upper() * input["times"]

    def unload(self) -> None:
        pass
