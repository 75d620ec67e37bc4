"""A model that says nothing of its input where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Discreet:
    def load(self) -> None:
        pass

    def predict(self, input: Mapping[str, Any]) -> Any:
        text = input["text"]
        if text.startswith("fail"):
            raise LookupError("nothing found")
        if text.startswith("odd"):
            return {"text": text, "odd": object()}
        if text.startswith("nul"):
            return f"{text}\x00"
        return text

    def unload(self) -> None:
        pass
