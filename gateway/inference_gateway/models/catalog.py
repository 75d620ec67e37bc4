"""All models in memory: the gateway's watch cache. Reads never block."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from inference_contract import queues
from inference_contract.field_errors import FieldError
from inference_contract.inferencemodel import InferenceModel, Visibility
from inference_gateway import changes
from inference_gateway.auth.accounts import Principal
from inference_gateway.background.lanes import Lane
from inference_gateway.errors import (
    Conflict,
    GatewayError,
    Invalid,
    NotFound,
    Unavailable,
    Unconfirmed,
)
from inference_gateway.models.inputs.budget import Budget
from inference_gateway.models.inputs.checker import InputChecker
from inference_gateway.models.openapi import openapi_schema
from inference_gateway.models.store import (
    InvalidDocument,
    ModelExists,
    ModelMissing,
    ModelRefused,
    ModelStore,
    NamespaceRefused,
    StoreError,
    StoreUnconfirmed,
)

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5


class CatalogModel:
    """A model, and values derived from its spec."""

    def __init__(
        self,
        model: InferenceModel,
        before: CatalogModel | None = None,
        owner_id: str | None = None,
    ) -> None:
        self.model = model
        self.id = model.id
        self.key = queues.model_key(model.id)
        self.owner = model.owner
        self.owner_id = owner_id
        self.details: dict[bool, dict[str, str]] = {}
        """Cached status details (`predictions.waiting`), by whether the reader is trusted. A change
        of the model or its status creates a new object."""
        self.is_public = model.spec.visibility is Visibility.PUBLIC
        # Kept across changes of the status, which come every few seconds.
        self._check: InputChecker
        if before is not None and before.model.spec is model.spec:
            self._check = before._check
        else:
            self._check = InputChecker(model.spec.parameters(), model.spec.one_of())

    def visible_to(self, viewer: Principal | None) -> bool:
        return self.is_public or belongs_to(self, viewer)

    def validate_input(self, value: object, budget: Budget | None = None) -> dict[str, Any]:
        """The input with the defaults filled in.

        Raises:
            Invalid: naming each wrong field as `input.<name>`.
            TooCostly: it exceeds the budget (default: one for the event loop).
        """
        return self._check(value, budget)

    def openapi_schema(self) -> dict[str, Any]:
        return openapi_schema(self.model.spec)


Entry = CatalogModel | InvalidDocument


class ModelCatalog:
    """Call `start` to keep it fresh; `create`, `replace` and `delete` block and write through."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self._entries: dict[str, Entry] = {}
        """Replaced as a whole, never changed, so that readers need no lock."""
        self._lock = threading.Lock()
        self.checks = Lane("checks of documents", most_waiting=50, most_of_one=4)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self.store.start)
        await self._refresh_once()
        self._task = asyncio.create_task(self._keep_fresh(), name="model-catalog")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self.store.stop)
        self.checks.close()

    def get(self, model_id: str, viewer: Principal | None) -> CatalogModel:
        """Raises NotFound, also for another account's private model; Conflict for the owner of an
        invalid document."""
        entry = self._entries.get(model_id)
        if type(entry) is CatalogModel and entry.visible_to(viewer):
            return entry
        if isinstance(entry, InvalidDocument) and belongs_to(entry, viewer):
            raise Conflict(f"the document of model {model_id} is not valid: {entry.error}")
        raise NotFound(f"no model {model_id}: GET /v1/models lists those you may use")

    def entry(self, model_id: str) -> Entry | None:
        return self._entries.get(model_id)

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    def visible(self, viewer: Principal | None) -> list[Entry]:
        """The models that this viewer may read, sorted by id."""
        return [entry for entry in self._entries.values() if may_read(entry, viewer)]

    def refresh(self) -> None:
        """Read the store. Blocks; safe on any thread."""
        with self._lock:
            before = self._entries
            entries: dict[str, Entry] = {}
            listed, owner_ids = self.store.list(), self.store.owner_ids()
            for model_id, found in listed.items():
                owner_id = owner_ids.get(owner_of(model_id))
                entries[model_id] = _entry(model_id, found, before.get(model_id), owner_id)
            self._entries = entries

    def create(self, model: InferenceModel, owner_id: str | None = None) -> CatalogModel:
        """Raises Conflict, Invalid, Unavailable."""
        with _explained(model.id):
            changes.begin()
            self.store.create(model, owner_id)
        return self._written(model.id)

    def replace(self, model: InferenceModel, owner_id: str | None = None) -> CatalogModel:
        """Raises NotFound, Conflict, Invalid, Unavailable."""
        with _explained(model.id):
            changes.begin()
            self.store.replace(model, owner_id)
        return self._written(model.id)

    def delete(self, model_id: str) -> None:
        """Raises NotFound, Unavailable."""
        with _explained(model_id):
            changes.begin()
            self.store.delete(model_id)
        self.refresh()

    def has_place(self, owner: str) -> bool:
        """Whether documents exist for this owner, or a folder or namespace for them. Blocks. Raises
        Unavailable while that is unknown."""
        if any(owner_of(model_id) == owner for model_id in self._entries):
            return True
        with _explained(owner):
            return self.store.has_place(owner)

    def is_gone(self, model_id: str) -> bool:
        """Whether the model was certainly deleted. Blocks."""
        return self.entry(model_id) is None and self.store.is_gone(model_id)

    def _written(self, model_id: str) -> CatalogModel:
        self.refresh()
        entry = self._entries.get(model_id)
        if not isinstance(entry, CatalogModel):
            raise Conflict(f"model {model_id} was changed by somebody else meanwhile")
        return entry

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh_once()

    async def _refresh_once(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        except Exception:
            # The last read state stays in use; the next round tries again.
            log.exception("the models cannot be read")


def owner_of(model_id: str) -> str:
    return model_id.partition("/")[0]


def may_read(entry: Entry, viewer: Principal | None) -> bool:
    """Whether the viewer may read the model. Invalid documents: only owner and administrators."""
    if isinstance(entry, CatalogModel) and entry.is_public:
        return True
    return viewer is not None and (viewer.is_admin or belongs_to(entry, viewer))


def belongs_to(entry: Entry, user: Principal | None) -> bool:
    """Whether the user owns the model. The name is not enough: another account may have had it."""
    if user is None or user.username != owner_of(entry.id):
        return False
    return entry.owner_id is None or entry.owner_id == user.user_id


@contextlib.contextmanager
def _explained(model_id: str) -> Iterator[None]:
    """Turn errors of the store into errors of the API."""
    try:
        yield
    except StoreError as error:
        raise _gateway_error(error, model_id) from error


def _gateway_error(error: StoreError, model_id: str) -> GatewayError:
    if isinstance(error, ModelExists):
        return Conflict(f"model {model_id} exists: choose another name, or PUT it")
    if isinstance(error, ModelMissing):
        return NotFound(f"no model {model_id}")
    if isinstance(error, NamespaceRefused):
        return Conflict(str(error))
    if isinstance(error, ModelRefused):
        errors: list[FieldError] = [
            {**item, "field": f"body.{item['field']}".rstrip(".")} for item in error.errors
        ]
        return Invalid.of(errors)
    if isinstance(error, StoreUnconfirmed):
        return Unconfirmed(str(error))
    return Unavailable(str(error))


def _entry(
    model_id: str,
    found: InferenceModel | InvalidDocument,
    before: Entry | None,
    owner_id: str | None,
) -> Entry:
    if isinstance(found, InvalidDocument):
        return replace(found, owner_id=owner_id)
    try:
        if isinstance(before, CatalogModel):
            is_same = before.model is found and before.owner_id == owner_id
            return before if is_same else CatalogModel(found, before, owner_id)
        return CatalogModel(found, owner_id=owner_id)
    except Exception as error:  # the other models must still be served
        log.exception("a model cannot be served", extra={"model": model_id})
        says = f"cannot be served: {type(error).__name__}: {error}"
        return InvalidDocument(model_id, says, owner_id)
