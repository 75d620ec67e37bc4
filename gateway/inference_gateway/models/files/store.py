"""InferenceModels as YAML files on one machine; see `inference_contract.layout`."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from inference_contract import layout, statefile
from inference_contract.inferencemodel import InferenceModel, InferenceModelStatus
from inference_gateway.health_state import Dependency
from inference_gateway.models import documents
from inference_gateway.models.files import source_code
from inference_gateway.models.store import (
    InvalidDocument,
    ModelExists,
    ModelMissing,
    NamespaceRefused,
    StoreUnavailable,
    StoreUnconfirmed,
)

Stamp = tuple[int, int, int] | None
"""Inode, mtime in ns and size of a file: changes when the file is replaced."""


@dataclass(frozen=True)
class _Known:
    document: Stamp
    status: Stamp
    entry: InferenceModel | InvalidDocument


class YamlModelStore:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[str, _Known] = {}
        self._owner_ids: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def dependencies(self) -> dict[str, Dependency]:
        return {}

    def list(self) -> dict[str, InferenceModel | InvalidDocument]:
        with self._lock:
            known: dict[str, _Known] = {}
            for model_id, path in layout.model_files(self._home).items():
                if (found := self._look(model_id, path)) is not None:
                    known[model_id] = found
            self._known = known
            owners = {model_id.partition("/")[0] for model_id in known}
            marks = ((owner, self._mark(owner)) for owner in owners)
            self._owner_ids = {owner: mark for owner, mark in marks if mark is not None}
            return {model_id: known.entry for model_id, known in known.items()}

    def owner_ids(self) -> Mapping[str, str]:
        return self._owner_ids

    def has_place(self, owner: str) -> bool:
        folder = layout.models_dir(self._home) / owner
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return False
        except OSError as error:
            message = f"the models cannot be read: {error.strerror}"
            raise StoreUnavailable(message) from error
        mark = layout.owner_file(self._home, owner).name
        return any(name == mark or name.endswith(".yaml") for name in names)

    def create(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        model = source_code.stamped(model)
        made = _with_metadata(model, generation=1, created=datetime.now(UTC))
        path = self._path(model.id)
        with self._lock, _Writing():
            _make_folder(path.parent)
            self._claim(model.owner, owner_id)
            try:
                _write_new(path, documents.dump(made))
            except FileExistsError as error:
                raise ModelExists(model.id) from error
        return made

    def replace(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        path = self._path(model.id)
        model = source_code.stamped(model)
        with self._lock, _Writing():
            try:
                generation, created, same = _compare(path, model)
            except FileNotFoundError as error:
                raise ModelMissing(model.id) from error
            self._claim(model.owner, owner_id)
            generation = generation if same else generation + 1
            made = _with_metadata(model, generation=generation, created=created)
            _write_temporary(path, documents.dump(made)).replace(path)
            _sync_folder(path.parent)
        return made

    def delete(self, model_id: str) -> None:
        path = self._path(model_id)
        with self._lock, _Writing():
            try:
                path.unlink()
            except FileNotFoundError as error:
                raise ModelMissing(model_id) from error
            _sync_folder(path.parent)

    def is_gone(self, model_id: str) -> bool:
        try:
            self._path(model_id).lstat()
        except FileNotFoundError:
            # If the folder of all documents is missing, its disk is not mounted.
            return layout.models_dir(self._home).is_dir()
        except OSError:
            return False
        return False

    def _path(self, model_id: str) -> Path:
        owner, _, name = model_id.partition("/")
        return layout.model_file(self._home, owner, name)

    def _mark(self, owner: str) -> str | None:
        """The id of the account that the folder belongs to; an id of no account if the file cannot
        be read."""
        try:
            return layout.owner_file(self._home, owner).read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError):
            return ""

    def _claim(self, owner: str, owner_id: str | None) -> None:
        """Make sure that the folder belongs to this account. Raises NamespaceRefused."""
        if owner_id is None:
            return
        path = layout.owner_file(self._home, owner)
        if self._mark(owner) is None:
            with contextlib.suppress(FileExistsError):
                _write_new(path, f"{owner_id}\n".encode())
        if self._mark(owner) != owner_id:
            raise NamespaceRefused(
                f"the folder models/{owner} belongs to another account, which had this name: an "
                f"administrator may hand it over by removing models/{owner}/{path.name}"
            )

    def _look(self, model_id: str, path: Path) -> _Known | None:
        """The entry; parsed again only if a file has changed. None if it was just deleted."""
        owner, _, name = model_id.partition("/")
        status_path = layout.status_file(self._home, owner, name)
        document, status = _stamp(path), _stamp(status_path)
        if document is None:
            return None
        before = self._known.get(model_id)
        if before is not None and before.document == document:
            if before.status == status:
                return before
            entry = before.entry
        else:
            entry = _read_document(model_id, path)
        if isinstance(entry, InferenceModel):
            entry = entry.model_copy(update={"status": _read_status(status_path)})
        return _Known(document, status, entry)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_document(model_id: str, path: Path) -> InferenceModel | InvalidDocument:
    try:
        model = documents.read(path)
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except documents.InvalidModel as error:
        return InvalidDocument(model_id, str(error))
    except OSError as error:
        return InvalidDocument(model_id, f"the file cannot be read: {error.strerror}")
    if model.id != model_id:
        says = f"says {model.id}, but the file is {path.parent.name}/{path.name}"
        return InvalidDocument(model_id, f"metadata.namespace/name: {says}")
    created = model.metadata.creation_timestamp or changed
    return _with_metadata(model, generation=model.metadata.generation, created=created)


def _read_status(path: Path) -> InferenceModelStatus:
    try:
        return InferenceModelStatus.model_validate(statefile.read(path) or {})
    except ValidationError:
        # Written by another version: the operator will replace it.
        return InferenceModelStatus()


def _compare(path: Path, model: InferenceModel) -> tuple[int, datetime, bool]:
    """Generation and creation time of the existing document, and whether its spec is the same.

    Raises FileNotFoundError.
    """
    try:
        before = documents.read(path)
    except documents.InvalidModel:
        return 1, datetime.now(UTC), False
    created = before.metadata.creation_timestamp or datetime.now(UTC)
    return before.metadata.generation, created, before.spec == model.spec


def _with_metadata(model: InferenceModel, *, generation: int, created: datetime) -> InferenceModel:
    update = {"generation": generation, "creation_timestamp": created}
    return model.model_copy(update={"metadata": model.metadata.model_copy(update=update)})


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sync_folder(path.parent)


def _write_new(path: Path, content: bytes) -> None:
    """Raises FileExistsError."""
    temporary = _write_temporary(path, content)
    try:
        # A link, unlike a rename, fails if the file exists.
        os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def _write_temporary(path: Path, content: bytes) -> Path:
    """A temporary file in the same folder, synced to disk, readable by its owner only."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            Path(file.name).unlink()
            raise
    return Path(file.name)


def _sync_folder(path: Path) -> None:
    """Sync a folder, so that renames in it are durable. Raises StoreUnconfirmed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreUnconfirmed(f"the model cannot be written: {error.strerror}") from error


class _Writing:
    """Turns OSError into StoreUnavailable; the old document is kept."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            message = f"the model cannot be written: {error.strerror}"
            raise StoreUnavailable(message) from error
