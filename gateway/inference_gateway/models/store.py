"""The interface of the stores of InferenceModel documents: YAML files or a Kubernetes cluster.

StoreError
├── ModelExists
├── ModelMissing
├── ModelRefused       the store's own validation failed; names the fields
├── NamespaceRefused   the owner has no namespace; the message says what to do
└── StoreUnavailable   the store cannot be written; the message says why
    └── StoreUnconfirmed   it may have been written
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inference_contract import field_errors
from inference_contract.field_errors import FieldError
from inference_contract.inferencemodel import InferenceModel
from inference_gateway.errors import NOT_KNOWN

if TYPE_CHECKING:
    from inference_gateway.health_state import Dependency


class StoreError(Exception):
    pass


class ModelExists(StoreError):
    pass


class ModelMissing(StoreError):
    pass


class ModelRefused(StoreError):
    """The message names the first field that is wrong; `errors` has them all, as `spec.source`."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(field_errors.first(errors))
        self.errors = errors


class NamespaceRefused(StoreError):
    pass


class StoreUnavailable(StoreError):
    pass


class StoreUnconfirmed(StoreUnavailable):
    """The change was requested, and its outcome is unknown."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {NOT_KNOWN}")


@dataclass(frozen=True)
class InvalidDocument:
    """A stored document that is not a valid model; it was written without the API."""

    id: str
    error: str
    """Names the field."""
    owner_id: str | None = None
    """The owner's account: see `ModelStore.owner_ids`."""


class ModelStore(Protocol):
    """Every method blocks, and may be called from any thread.

    Each owner has a folder or a namespace, which records the id of its account. Without an id (it
    was created without the API) it belongs to the account that has the name."""

    def start(self) -> None:
        """Call it first. Returns after a moment even if the store does not answer."""

    def stop(self) -> None: ...

    def dependencies(self) -> dict[str, Dependency]:
        """Health of the store's dependencies, for `/health`."""

    def list(self) -> dict[str, InferenceModel | InvalidDocument]:
        """All documents by id, sorted. An unchanged one is the same object as in the last call."""

    def owner_ids(self) -> Mapping[str, str]:
        """The account ids by owner's name, as of the last call of `list`."""

    def has_place(self, owner: str) -> bool:
        """Whether a folder or namespace exists for an owner of this name. Reads the store itself,
        not a cache. Raises StoreUnavailable."""

    def create(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """Create a model. A new folder or namespace records `owner_id`.

        Args:
            owner_id: id of the owner's account. None: no account has the name, or no other can get
                it.

        Raises:
            ModelExists, ModelRefused, NamespaceRefused, StoreUnavailable
        """

    def replace(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """Raises ModelMissing, ModelRefused, NamespaceRefused, StoreUnavailable."""

    def delete(self, model_id: str) -> None:
        """Raises ModelMissing, StoreUnavailable."""

    def is_gone(self, model_id: str) -> bool:
        """Whether the document certainly does not exist; False while that is unknown. Reads the
        store itself, not a cache."""
