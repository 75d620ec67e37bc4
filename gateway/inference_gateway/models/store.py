"""Where InferenceModel documents live: one interface, a home per way of running.

StoreError
├── ModelExists
├── ModelMissing
├── ModelRefused       the home checks documents itself, and names the fields
├── NamespaceRefused   the owner has no place there; the message says what to do
└── StoreUnavailable   the home cannot be written; the message says why
    └── StoreUnconfirmed   or it was: nobody knows
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
    """The home was asked for a change, and did not say whether it made it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {NOT_KNOWN}")


@dataclass(frozen=True)
class InvalidDocument:
    """A document that somebody wrote by hand and that is not a model."""

    id: str
    error: str
    """Names the field."""
    owner_id: str | None = None
    """As the catalog knows it: see `ModelStore.owner_ids`."""


class ModelStore(Protocol):
    """Every method blocks, and may be called from any thread.

    An owner's place carries a mark: the id of the account that it belongs to. A place without one,
    which somebody made by hand, belongs to whichever account has the name.
    """

    def start(self) -> None:
        """Before anything else; goes on after a moment even if the home does not answer."""

    def stop(self) -> None: ...

    def dependencies(self) -> dict[str, Dependency]:
        """What the home needs that is beyond this process, for `/health`."""

    def list(self) -> dict[str, InferenceModel | InvalidDocument]:
        """Everything, by id, sorted. What has not changed is the same object as last time."""

    def owner_ids(self) -> Mapping[str, str]:
        """The marks of all places, by owner's name, as they were when `list` was called last."""

    def has_place(self, owner: str) -> bool:
        """Whether somebody has written documents for an owner of this name, or keeps a place for
        them. Asks the home itself, not what is remembered of it. Raises StoreUnavailable."""

    def create(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """A place that is made carries the mark.

        Args:
            owner_id: of the owner's account. None: no account has the name, or no other can get it.

        Raises:
            ModelExists, ModelRefused, NamespaceRefused, StoreUnavailable
        """

    def replace(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        """Raises ModelMissing, ModelRefused, NamespaceRefused, StoreUnavailable."""

    def delete(self, model_id: str) -> None:
        """Raises ModelMissing, StoreUnavailable."""

    def is_gone(self, model_id: str) -> bool:
        """Whether there is certainly no such document; False while nobody can say. Asks the home
        itself, not what is remembered of it."""
