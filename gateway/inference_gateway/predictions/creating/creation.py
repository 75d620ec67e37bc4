"""Creates a prediction: stores it, enqueues it and, if requested, waits for its end."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.authenticator import Authenticator
from inference_gateway.errors import (
    GatewayError,
    Invalid,
    TooManyRequests,
    Unavailable,
    Unconfirmed,
)
from inference_gateway.lifecycle import ids
from inference_gateway.lifecycle.prediction import NewRow, Row, State, as_stored
from inference_gateway.lifecycle.wire import has_ended
from inference_gateway.postgres import db
from inference_gateway.predictions import metrics, repository
from inference_gateway.predictions.creating import requests
from inference_gateway.predictions.creating.batch_writer import NewPrediction
from inference_gateway.predictions.creating.new_rows import NewRows
from inference_gateway.predictions.creating.quota import PredictionQuotas
from inference_gateway.predictions.creating.requests import CreateBody, CreateHeaders
from inference_gateway.predictions.creating.storing import Storing
from inference_gateway.predictions.reading import Reader
from inference_gateway.predictions.waiting.event_hub import EventHub
from inference_gateway.predictions.waiting.waiters import Ended, Waiter

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 55.0
"""Limit of a caller's wait: proxies in front have a timeout of 60."""


@dataclass(frozen=True, slots=True)
class Created:
    row: Row
    is_unfinished: bool = False
    """The caller waited for its end, and it has not ended in time."""


class Creation:
    """For one event loop."""

    def __init__(
        self,
        engine: Engine,
        rows: NewRows,
        quotas: PredictionQuotas,
        storing: Storing,
        hub: EventHub,
        reader: Reader,
        authenticator: Authenticator,
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._quotas = quotas
        self._storing = storing
        self._hub = hub
        self._reader = reader
        self._authenticator = authenticator

    async def create(
        self,
        user: Principal,
        body: CreateBody,
        headers: CreateHeaders,
        path_model: str | None = None,
        base_url: str | None = None,
    ) -> Created:
        """Store a prediction and put it on its queue; if requested, wait for its end.

        Args:
            base_url: URL by which the caller reached the API, for the links in its webhooks.

        Raises:
            GatewayError: nothing was stored.
            Unconfirmed: it may have been stored.
        """
        began = time.perf_counter()
        seconds = min(headers.wait_seconds, LONGEST_WAIT_SECONDS)
        if headers.idempotency_key is not None:
            await self._require_free(user, headers.idempotency_key)
        try:
            row, size = await self._rows.make(user, body, headers, path_model)
            row["base_url"] = base_url if body.webhook else None
            row["held"] = await self._quotas.take(user, row["model"], size)
        except GatewayError:
            accepted = await self._accepted(user.user_id, body, headers, path_model)
            if accepted is not None:
                if not seconds:
                    return Created(accepted)
                return await self._wait_for(user, accepted, seconds)
            metrics.REFUSED.inc()
            raise
        if not seconds:
            return await self._store(row, size)
        created = await self._store_and_wait(user, row, size, seconds)
        self._authenticator.require(user)
        if not created.is_unfinished:
            metrics.WAIT_SECONDS.observe(time.perf_counter() - began)
        return created

    async def _require_free(self, user: Principal, key: str) -> None:
        """Raises Invalid if the chosen id is the generated id of another prediction of this
        account."""
        chosen = ids.chosen_by(key)
        if chosen is None:
            return
        stored = await self._reader.find_state(UUID(chosen), user.user_id)
        if stored is not None and stored["idempotency_key"] != key:
            raise _used_before(key)

    async def _accepted(
        self, owner: str, body: CreateBody, headers: CreateHeaders, path_model: str | None
    ) -> Row | None:
        """The prediction of an earlier, identical request; its model may have been deleted or
        changed since.

        Raises TooManyRequests, Unavailable: it is large.
        """
        if headers.idempotency_key is None:
            return None
        stored = await asyncio.to_thread(
            repository.by_key, self._engine, owner, headers.idempotency_key
        )
        if stored is None:
            return None
        model_id, _ = requests.named_model(body, path_model)
        hashed = await self._rows.bodies.run(
            owner, requests.request_hash, body, model_id, headers.cancel_after
        )
        if stored["request_hash"] != hashed:
            return None
        metrics.REPLAYED.inc()
        return await self._reader.row(str(stored["id"]), owner)

    async def _store(self, row: NewRow, size: int) -> Created:
        new = NewPrediction(row, size, asyncio.get_running_loop().create_future())
        self._storing.put(new)
        stored = await self._storing.stored(new, new.future)
        if stored is row:
            return Created(as_stored(row))
        return await self._read(_same_request(row, stored))

    async def _store_and_wait(
        self, user: Principal, row: NewRow, size: int, seconds: float
    ) -> Created:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        waiter = Waiter(row["id"], user)
        await self._hub.add(waiter)
        timer = loop.call_at(until, waiter.resolve, None)
        try:
            new = NewPrediction(row, size, waiter.end, quiet=True)
            self._storing.put(new)
            end: Any = await waiter.end
            if end is None:
                end = await self._storing.stored(new, new.stored())
        finally:
            timer.cancel()
            self._hub.leave(waiter)
        if isinstance(end, Ended):
            # Its creation time may not be known here yet, although it has ended.
            known = row["created_at"] is not None and end.is_whole
            return Created(end.of(as_stored(row))) if known else await self._read(row)
        if end is row:
            return Created(as_stored(row), is_unfinished=True)
        older = _same_request(row, end)
        return await self._wait_for(user, older, until - loop.time())

    async def _wait_for(self, user: Principal, row: Row, seconds: float) -> Created:
        """Wait for the end of a prediction that is stored already."""
        if has_ended(row):
            return await self._read(row)
        waiter = Waiter(str(row["id"]), user)
        await self._hub.add(waiter)
        timer = asyncio.get_running_loop().call_later(seconds, waiter.resolve, None)
        try:
            # It may have ended before the waiter was registered.
            now = await self._reader.state(str(row["id"]), str(row["owner"]))
            end = Ended(now, is_whole=False) if has_ended(now) else await waiter.end
        except SQLAlchemyError as error:
            return _unread(row, error)
        finally:
            timer.cancel()
            self._hub.leave(waiter)
        if end is None:
            return Created({**row, **now}, is_unfinished=True)
        return Created(end.of(row)) if end.is_whole else await self._read(row)

    async def _read(self, row: NewRow | Row) -> Created:
        """The whole row of a prediction; reported as unfinished if there is no space to read it."""
        try:
            return Created(await self._reader.row(str(row["id"]), str(row["owner"])))
        except (TooManyRequests, Unavailable, SQLAlchemyError) as error:
            return _unread(row, error)


def _same_request(row: NewRow, stored: NewRow | State) -> Row:
    """The stored columns of this row, or of the earlier row with its idempotency key; perhaps not
    all.

    Raises:
        Invalid: the key was used with another request.
    """
    if str(stored["id"]) == row["id"]:
        return cast("Row", {**row, **stored})
    if stored["request_hash"] != row["request_hash"]:
        raise _used_before(row["idempotency_key"])
    metrics.REPLAYED.inc()
    return cast("Row", {**row, **stored})


def _unread(row: NewRow | Row, error: GatewayError | SQLAlchemyError) -> Created:
    """The response for a stored prediction whose row cannot be read now.

    Raises:
        Unconfirmed: too little of it is known.
    """
    if isinstance(error, SQLAlchemyError):
        log.warning("a caller who waited gets what is known: %s", db.describe(error))
    if row["created_at"] is None:
        why = "PostgreSQL does not answer" if isinstance(error, SQLAlchemyError) else error.detail
        raise Unconfirmed(
            f"{why}; the prediction is stored: look for it before you send the request again",
            prediction_id=str(row["id"]),
        ) from error
    return Created(as_stored(row), is_unfinished=True)


def _used_before(key: str | None) -> Invalid:
    field = "Idempotency-Key" if ids.chosen_by(key) is None else "prediction_id"
    message = "was used before, with another request"
    return Invalid(f"{field} {message}", errors=[{"field": field, "message": message}])
