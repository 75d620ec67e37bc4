"""Where InferenceModel documents live: one interface, a home per way of running.

StoreError
├── ModelExists
├── ModelMissing
└── StoreUnavailable   the home cannot be written; the message says why
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inference_contract.inferencemodel import InferenceModel


class StoreError(Exception):
    pass


class ModelExists(StoreError):
    pass


class ModelMissing(StoreError):
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

    def list(self) -> dict[str, InferenceModel | InvalidDocument]:
        """Everything, by id, sorted. What has not changed is the same object as last time."""

    def create(self, model: InferenceModel) -> InferenceModel:
        """Raises ModelExists, StoreUnavailable."""

    def replace(self, model: InferenceModel) -> InferenceModel:
        """Raises ModelMissing, StoreUnavailable."""

    def delete(self, model_id: str) -> None:
        """Raises ModelMissing, StoreUnavailable."""
