"""What an engine is.

A model that takes a batch whole derives from `BaseInferenceModel` and may have `predict_batch`. An
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
    """The engine refuses an input; the message is for the caller, who can mend it."""


class BaseInferenceModel(ABC):
    """`load` once, `predict` many.

    A class may also have `predict_batch(batch: list[dict]) -> list`: then it is given up to
    batching.maxBatchSize inputs at once. A `predict` that is a generator function streams.
    """

    is_foreign = False
    """Its code is the model's owner's: a process is ended if it does not stop when it shall."""

    def load(self) -> None:  # noqa: B027 - a model without weights has nothing to do here
        """Called once, before anything else. Whatever it raises is the reason of LoadFailed."""

    @abstractmethod
    def predict(self, inputs: dict[str, Any]) -> Any:
        """The output for one input. May raise InputError.

        Anything that JSON can hold, and scalars of numpy; NaN, bytes, arrays and tensors are
        refused, not converted.
        """

    def check(self) -> None:  # noqa: B027 - optional
        """Called after an error. Raises if nothing can be predicted any more: the process is then
        replaced."""

    def unload(self) -> None:  # noqa: B027 - optional
        """Called once, after the last prediction."""


@dataclass(frozen=True)
class EngineOptions:
    """What the built-in engines need to know."""

    path: Path
    """Folder (or file) of the weights or the code."""
    dtype: str = "auto"
    device: str = "cpu"
    max_batch_size: int = 16
    class_name: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class Request(NamedTuple):
    id: str
    """The prediction's id: the same again in a second attempt."""
    inputs: dict[str, Any]


@dataclass(slots=True)
class Delta:
    """What one step brought for one request."""

    id: str
    output: Any = None
    """Text to be added, or the next item of a list; None: nothing this time."""
    done: bool = False
    """The request has left the engine."""
    error: BaseException | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    """With `done`."""
    is_item: bool = False
    """`output` is an item even if it is None."""


class StepEngine(BaseInferenceModel):
    """Requests join and leave between steps; every step brings each of them a little further."""

    slots: int = 1
    """How many requests may be active. Known after `load`."""
    is_text: bool = True
    """Whether outputs are text that is joined, or items of a list."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Take a request in. Raises InputError, or whatever the model's code raises."""

    @abstractmethod
    def step(self) -> Sequence[Delta]:
        """Advance the active requests. An exception ends all of them."""

    @abstractmethod
    def remove(self, id: str) -> None:
        """Forget an active request."""

    def predict(self, inputs: dict[str, Any]) -> Any:
        """One request on its own, to its end."""
        self.add(Request("", inputs))
        parts: list[Any] = []
        while True:
            for delta in self.step():
                if delta.error is not None:
                    raise delta.error
                if delta.output is not None or delta.is_item:
                    parts.append(delta.output)
                if delta.done:
                    return "".join(parts) if self.is_text else parts
