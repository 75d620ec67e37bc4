"""Predictions of deleted models: waiting ones are canceled, running ones may finish.

Every gateway checks periodically, so that no deletion is missed, however the model was deleted.
Concurrent rounds of several gateways do no harm.
"""

from __future__ import annotations

import logging
import time

import redis
from sqlalchemy import Engine

from inference_gateway.background import set_aside
from inference_gateway.background.periodic import Periodic
from inference_gateway.lifecycle import cancel
from inference_gateway.lifecycle.open_models import open_models
from inference_gateway.models.catalog import ModelCatalog
from inference_gateway.postgres import db
from inference_gateway.redis.clients import NotPrimary

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5
GRACE_SECONDS = 1.0
"""Some tools replace a model by deleting and creating it (`kubectl replace --force`, text editors):
its predictions are kept for this time."""


class DeletedModels(Periodic):
    def __init__(self, engine: Engine, client: redis.Redis, catalog: ModelCatalog) -> None:
        super().__init__("predictions without a model", _PAUSE_SECONDS)
        self._engine = engine
        self._redis = client
        self._catalog = catalog
        self._missed: dict[str, float] = {}
        """Model → when it was first missed, by the monotonic clock."""

    def step(self) -> None:
        """One round. Blocks."""
        now = time.monotonic()
        missed = [m for m in open_models(self._engine) if self._catalog.entry(m) is None]
        self._missed = {model: self._missed.get(model, now) for model in missed}
        for model, since in self._missed.items():
            is_due = now - since >= GRACE_SECONDS and cancel.has_waiting(self._engine, model)
            if is_due:
                self._end_if_gone(model)

    def model_deleted(self, model: str) -> None:
        """Cancel at once; after an error `step` tries again. Blocks."""
        try:
            self._end(model)
        except Exception as error:
            log.warning("what waits for model %s is canceled later: %s", model, db.describe(error))

    def _end_if_gone(self, model: str) -> None:
        """Cancel the model's waiting predictions if it is deleted. Errors are logged."""
        try:
            if self._catalog.is_gone(model):
                self._end(model)
        except (redis.ConnectionError, redis.TimeoutError, NotPrimary):
            raise
        except Exception as error:  # the other models must still be checked
            set_aside.ITEMS.labels("orphans").inc()
            log.warning("model %s cannot be looked for: %s", model, db.describe(error))

    def _end(self, model: str) -> None:
        count = cancel.end_waiting(self._engine, self._redis, model)
        if count:
            log.info("model %s is gone: %d predictions canceled", model, count)
