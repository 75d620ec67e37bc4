"""Base classes of engines.

A model that runs a whole batch derives from `BaseInferenceModel` and may have `predict_batch`. An
engine whose requests join and leave between steps derives from `StepEngine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class EngineError(Exception):
    """The model cannot be loaded; the message says why, for the model's owner."""


class InputError(Exception):
    """The engine refuses an input; the message tells the caller how to correct it."""


class BaseInferenceModel(ABC):
    """`load` once, `predict` many.

    A class may also have `predict_batch(batch: list[dict]) -> list`: then it is given up to
    batching.maxBatchSize inputs at once. A `predict` that is a generator function streams.
    """

    is_foreign = False
    """Whether it runs code of the model's owner: then the process is ended if it does not stop."""

    def load(self) -> None:  # noqa: B027 - a model without weights has nothing to do here
        """Called once, first. An exception becomes the message of LoadFailed."""

    @abstractmethod
    def predict(self, inputs: dict[str, Any]) -> Any:
        """The output for one input. May raise InputError.

        Anything that JSON can hold, and scalars of numpy; NaN, bytes, arrays and tensors are
        refused, not converted.
        """

    def check(self) -> None:  # noqa: B027 - optional
        """Called after an error. Raises if no further prediction can run: then the process is
        replaced."""

    def unload(self) -> None:  # noqa: B027 - optional
        """Called once, after the last prediction."""


@dataclass(frozen=True)
class EngineOptions:
    """Options of the built-in engines."""

    path: Path
    """Folder (or file) of the weights or the code."""
    dtype: str = "auto"
    device: str = "cpu"
    max_batch_size: int = 16
    class_name: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class Request(NamedTuple):
    id: str
    """The prediction's id: the same in every attempt."""
    inputs: dict[str, Any]


@dataclass(slots=True)
class Delta:
    """The result of one step for one request."""

    id: str
    output: Any = None
    """Text to append, or the next item of a list; None: no output in this step."""
    done: bool = False
    """The request has left the engine."""
    error: BaseException | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    """With `done`."""
    is_item: bool = False
    """`output` is an item even if it is None."""
    whole: Any = None
    """With `done`: the output, if it is not what its pieces come to."""


class StepEngine(BaseInferenceModel):
    """An engine whose requests join and leave between steps; each step advances all of them."""

    slots: int = 1
    """How many requests may be active. Known after `load`."""
    is_text: bool = True
    """Whether outputs are text that is joined, or items of a list."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Add a request. Raises InputError, or any exception of the model's code."""

    @abstractmethod
    def step(self) -> Sequence[Delta]:
        """Advance the active requests. An exception ends all of them."""

    @abstractmethod
    def remove(self, id: str) -> None:
        """Drop an active request."""

    def predict(self, inputs: dict[str, Any]) -> Any:
        """Run one request alone to its end."""
        self.add(Request("", inputs))
        parts: list[Any] = []
        while True:
            for delta in self.step():
                if delta.error is not None:
                    raise delta.error
                if delta.output is not None or delta.is_item:
                    parts.append(delta.output)
                if delta.whole is not None:
                    return delta.whole
                if delta.done:
                    return "".join(parts) if self.is_text else parts
