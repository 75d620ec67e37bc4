"""What deleted accounts leave: their models are removed, their open predictions canceled.

Every gateway looks again and again until nothing new can come, so that a deletion is carried out
whatever was away when it was asked for. Two that look at once do no harm.
"""

from __future__ import annotations

import logging

from sqlalchemy import Engine

from inference_gateway.auth import administration
from inference_gateway.auth.administration import Leaver
from inference_gateway.background import set_aside
from inference_gateway.background.periodic import Repeated
from inference_gateway.cleanup.deleted_models import Orphans
from inference_gateway.errors import GatewayError, NotFound
from inference_gateway.models.catalog import ModelCatalog, owner_of
from inference_gateway.postgres import db

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 2.0


class Departures(Repeated):
    def __init__(self, engine: Engine, catalog: ModelCatalog, orphans: Orphans) -> None:
        super().__init__("deleted accounts", _PAUSE_SECONDS)
        self._engine = engine
        self._catalog = catalog
        self._orphans = orphans

    def step(self) -> None:
        """One look. Blocks."""
        if count := administration.cancel_ownerless_predictions(self._engine):
            log.info("%d predictions of accounts that are not there: canceled", count)
        for leaver in administration.leavers(self._engine):
            try:
                self._see_off(leaver)
            except Exception as error:  # of all leavers, the others must go
                set_aside.ITEMS.labels("departures").inc()
                log.warning("account %s cannot be cleared up: %s", leaver.id, db.describe(error))

    def account_deleted(self) -> None:
        """At once; whatever is in the way now, `step` deals with later. Blocks."""
        try:
            self.step()
        except Exception as error:
            log.warning("an account is cleared up later: %s", db.describe(error))

    def _see_off(self, leaver: Leaver) -> None:
        count = administration.cancel_predictions(self._engine, leaver.id)
        is_empty = self._remove_models(leaver) and not count
        if is_empty and leaver.is_late:
            administration.settled(self._engine, leaver.id)
        elif count:
            log.info("account %s is gone: %d predictions canceled", leaver.id, count)

    def _remove_models(self, leaver: Leaver) -> bool:
        """Whether there are none any more."""
        found = [
            entry.id
            for entry in self._catalog.entries()
            if owner_of(entry.id) == leaver.username and entry.owner_id in (None, str(leaver.id))
        ]
        for model in found:
            try:
                self._catalog.delete(model)
            except NotFound:
                continue
            except Exception as error:  # of all models, the others must go
                said = error.detail if isinstance(error, GatewayError) else db.describe(error)
                log.warning("model %s of a deleted account: %s", model, said)
                continue
            log.info("account %s is gone: model %s removed", leaver.id, model)
            self._orphans.model_deleted(model)
        return not found
