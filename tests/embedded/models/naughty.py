"""Custom classes that do what custom classes should not."""

import ctypes
import os
import time
from typing import Any


class RaisesInLoad:
    def load(self) -> None:
        raise RuntimeError("the weights are made of cheese")

    def predict(self, inputs: dict[str, Any]) -> str:
        return ""


class Misbehaves:
    """Does what its input says."""

    def predict(self, inputs: dict[str, Any]) -> object:
        match inputs["do"]:
            case "raise":
                raise ValueError("I will not")
            case "hang":
                time.sleep(3600)
            case "exit":
                os._exit(9)
            case "segfault":
                print("the last words")
                time.sleep(1)
                ctypes.string_at(0)
            case "abort":
                print("the last words")
                time.sleep(1)
                os.abort()
            case "eat":
                eaten = []
                while True:
                    eaten.append(b"x" * 10_000_000)
            case "not-json":
                return object()
        return inputs["do"]
