"""Status files: written when the status changes, removed with the model."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from inference_contract import layout, statefile
from inference_contract.inferencemodel import InferenceModelStatus

log = logging.getLogger(__name__)


class StatusFiles:
    """Starts with the files of the last operator, so that transition times survive a restart."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._written: dict[str, InferenceModelStatus | None] = {}
        self._failing = False
        for path in (home / "status").glob("*/*.json"):
            status = None
            with suppress(ValueError):
                status = InferenceModelStatus.model_validate(statefile.read(path))
            self._written[f"{path.parent.name}/{path.stem}"] = status

    def get(self, model_id: str) -> InferenceModelStatus | None:
        return self._written.get(model_id)

    def write(self, model_id: str, status: InferenceModelStatus) -> None:
        """Write the status if it changed. After an error the next call tries again."""
        if self._written.get(model_id) == status:
            return
        path = self._path(model_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            statefile.write(path, status.model_dump(mode="json", by_alias=True))
        except OSError as error:
            if not self._failing:  # Log the first error only: a full disk may stay full.
                log.error("cannot write %s: %s", path, error, extra={"model": model_id})
            self._failing = True
            return
        self._failing = False
        self._written[model_id] = status

    def keep_only(self, model_ids: Collection[str]) -> None:
        for model_id in [known for known in self._written if known not in model_ids]:
            path = self._path(model_id)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.error("cannot remove %s: %s", path, error, extra={"model": model_id})
                continue
            with suppress(OSError):  # Not empty.
                path.parent.rmdir()
            del self._written[model_id]

    def _path(self, model_id: str) -> Path:
        return layout.status_file(self._home, *model_id.split("/"))
