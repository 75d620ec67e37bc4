"""Cleans up after deleted accounts: removes their models, cancels their open predictions.

Every gateway repeats this until nothing new can come, so that a deletion completes even if a server
did not answer at first. Concurrent rounds of several gateways do no harm.
"""

from __future__ import annotations

import logging

from sqlalchemy import Engine

from inference_gateway.auth import administration
from inference_gateway.auth.administration import DeletedAccount
from inference_gateway.background import set_aside
from inference_gateway.background.periodic import Periodic
from inference_gateway.cleanup.deleted_models import DeletedModels
from inference_gateway.errors import GatewayError, NotFound
from inference_gateway.models.catalog import ModelCatalog, owner_of
from inference_gateway.postgres import db

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 2.0


class DeletedAccounts(Periodic):
    def __init__(
        self, engine: Engine, catalog: ModelCatalog, deleted_models: DeletedModels
    ) -> None:
        super().__init__("deleted accounts", _PAUSE_SECONDS)
        self._engine = engine
        self._catalog = catalog
        self._deleted_models = deleted_models

    def step(self) -> None:
        """One round. Blocks."""
        if count := administration.cancel_ownerless_predictions(self._engine):
            log.info("%d predictions of accounts that are not there: canceled", count)
        for account in administration.deleted_accounts(self._engine):
            try:
                self._clean_up(account)
            except Exception as error:  # the other accounts must still be cleaned up
                set_aside.ITEMS.labels("departures").inc()
                log.warning("account %s cannot be cleared up: %s", account.id, db.describe(error))

    def account_deleted(self) -> None:
        """Clean up at once; after an error `step` tries again. Blocks."""
        try:
            self.step()
        except Exception as error:
            log.warning("an account is cleared up later: %s", db.describe(error))

    def _clean_up(self, account: DeletedAccount) -> None:
        count = administration.cancel_predictions(self._engine, account.id)
        is_empty = self._remove_models(account) and not count
        if is_empty and account.is_late:
            administration.settled(self._engine, account.id)
        elif count:
            log.info("account %s is gone: %d predictions canceled", account.id, count)

    def _remove_models(self, account: DeletedAccount) -> bool:
        """Whether no models are left."""
        found = [
            entry.id
            for entry in self._catalog.entries()
            if owner_of(entry.id) == account.username and entry.owner_id in (None, str(account.id))
        ]
        for model in found:
            try:
                self._catalog.delete(model)
            except NotFound:
                continue
            except Exception as error:  # the other models must still be removed
                said = error.detail if isinstance(error, GatewayError) else db.describe(error)
                log.warning("model %s of a deleted account: %s", model, said)
                continue
            log.info("account %s is gone: model %s removed", account.id, model)
            self._deleted_models.model_deleted(model)
        return not found
