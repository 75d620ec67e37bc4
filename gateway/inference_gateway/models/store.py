"""Where InferenceModel documents live: one interface, a home per way of running.

StoreError
├── ModelExists
├── ModelMissing
├── ModelRefused       the home checks documents itself, and names the fields
├── NamespaceRefused   the owner has no place there; the message says what to do
└── StoreUnavailable   the home cannot be written; the message says why
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.errors import FieldError

if TYPE_CHECKING:
    from inference_gateway.health import Dependency


class StoreError(Exception):
    pass


class ModelExists(StoreError):
    pass


class ModelMissing(StoreError):
    pass


class ModelRefused(StoreError):
    """The message names the first field that is wrong; `errors` has them all, as `spec.source`."""

    def __init__(self, errors: list[FieldError]) -> None:
        first = errors[0]
        super().__init__(": ".join(part for part in (first["field"], first["message"]) if part))
        self.errors = errors


class NamespaceRefused(StoreError):
    pass


class StoreUnavailable(StoreError):
    pass


@dataclass(frozen=True)
class InvalidDocument:
    """A document that somebody wrote by hand and that is not a model."""

    id: str
    error: str
    """Names the field."""


class ModelStore(Protocol):
    """Every method blocks, and may be called from any thread."""

    def start(self) -> None:
        """Before anything else; goes on after a moment even if the home does not answer."""

    def stop(self) -> None: ...

    def dependencies(self) -> dict[str, Dependency]:
        """What the home needs that is beyond this process, for `/health`."""

    def list(self) -> dict[str, InferenceModel | InvalidDocument]:
        """Everything, by id, sorted. What has not changed is the same object as last time."""

    def create(self, model: InferenceModel) -> InferenceModel:
        """Raises ModelExists, ModelRefused, NamespaceRefused, StoreUnavailable."""

    def replace(self, model: InferenceModel) -> InferenceModel:
        """Raises ModelMissing, ModelRefused, StoreUnavailable."""

    def delete(self, model_id: str) -> None:
        """Raises ModelMissing, StoreUnavailable."""

    def is_gone(self, model_id: str) -> bool:
        """Whether there is certainly no such document; False while nobody can say. Asks the home
        itself, not what is remembered of it."""
