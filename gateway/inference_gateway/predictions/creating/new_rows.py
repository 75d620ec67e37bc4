"""Turns a client's request into a row to store."""

from __future__ import annotations

from typing import Any

import orjson

from inference_contract.predictions import PredictionStatus
from inference_contract.webhooks import WebhookEvent
from inference_gateway.auth.accounts import Principal
from inference_gateway.background.lanes import Lane
from inference_gateway.errors import Invalid, NotFound
from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.lifecycle.prediction import NewRow
from inference_gateway.models.catalog import CatalogModel, ModelCatalog
from inference_gateway.models.inputs.budget import ThreadBudget, TooCostly
from inference_gateway.postgres.stored import PassedOn
from inference_gateway.predictions.creating import requests
from inference_gateway.predictions.creating.insert import LARGE_BYTES
from inference_gateway.predictions.creating.queue_sizes import QueueSizes
from inference_gateway.predictions.creating.requests import CreateBody, CreateHeaders, LargeBody
from inference_gateway.settings import GatewaySettings
from inference_gateway.webhooks.guard import check_url

_DEFAULT_EVENTS = [WebhookEvent.COMPLETED]
_STARTING = PredictionStatus.STARTING.value


class NewRows:
    """For one event loop."""

    def __init__(self, settings: GatewaySettings, catalog: ModelCatalog, sizes: QueueSizes) -> None:
        self._settings = settings
        self._catalog = catalog
        self._sizes = sizes
        self._ids = IdSource()
        # Practically unlimited: MAX_BYTES_IN_FLIGHT bounds their memory.
        self.bodies = Lane("large requests", most_waiting=1000, most_of_one=1000)
        self._checks = Lane("checks of large inputs", most_waiting=50, most_of_one=4)

    def close(self) -> None:
        self._checks.close()
        self.bodies.close()

    async def make(
        self, user: Principal, body: CreateBody, headers: CreateHeaders, path_model: str | None
    ) -> tuple[NewRow, int]:
        """The row, and the size of its input. Raises GatewayError."""
        model_id, version = requests.named_model(body, path_model)
        model = self._catalog.get(model_id, user)
        current = model.model.spec.version
        if version not in (None, current):
            raise NotFound(f"{model_id} has no version {version}: it is at version {current}")
        try:
            value = model.validate_input(body.input)
        except TooCostly:
            value = await self._checked(user.user_id, model, body.input)
        given = (body, value, model_id, headers, self._settings.max_input_bytes)
        if isinstance(body, LargeBody):
            content, hashed = await self.bodies.run(user.user_id, requests.encode, *given)
        else:
            content, hashed = requests.encode(*given)
        if body.webhook is not None:
            check_url(body.webhook, self._settings.webhook_allow_loopback and user.is_admin)
        self._sizes.check(model_id)
        prediction_id, token = self._ids.new()
        lives = headers.cancel_after or self._settings.prediction_deadline_seconds
        row: NewRow = {
            "id": prediction_id,
            "owner": user.user_id,
            "model": model_id,
            "version": current,
            "status": _STARTING,
            "attempt": 1,
            "token": token,
            "crashes": 0,
            "input": PassedOn(content) if len(content) > LARGE_BYTES else orjson.Fragment(content),
            "input_bytes": len(content),
            "held": False,
            "output": None,
            "logs": "",
            "error": None,
            "error_code": None,
            "metrics": None,
            "webhook": body.webhook,
            "webhook_events": (body.webhook_events_filter or _DEFAULT_EVENTS)
            if body.webhook
            else None,
            "base_url": None,
            "idempotency_key": headers.idempotency_key,
            "request_hash": hashed,
            "created_at": None,
            "started_at": None,
            "completed_at": None,
            "deadline": None,
            "lives_seconds": lives,
        }
        return row, len(content)

    async def _checked(self, user_id: str, model: CatalogModel, value: object) -> dict[str, Any]:
        """Check a large input on a thread. Raises Invalid, TooManyRequests, Unavailable."""
        seconds = self._settings.validation_seconds
        try:
            return await self._checks.run(
                user_id, lambda: model.validate_input(value, ThreadBudget(seconds))
            )
        except TooCostly:
            raise Invalid(
                f"to check the input against the model's schema takes more than {seconds:g} s "
                "(VALIDATION_SECONDS): send less at once, or simplify `items`"
            ) from None
