"""Prints, and takes its time."""

from __future__ import annotations

import time
from typing import Any


class Talkative:
    def predict(self, inputs: dict[str, Any]) -> str:
        print(f"hello {inputs['text']}")
        time.sleep(float(inputs["seconds"]))
        print("bye")
        return str(inputs["text"])


class Deaf:
    """Does not stop."""

    def predict(self, inputs: dict[str, Any]) -> str:
        end = time.monotonic() + float(inputs["seconds"])
        while time.monotonic() < end:
            try:
                time.sleep(0.1)
            except BaseException:
                continue
        return str(inputs["text"])
