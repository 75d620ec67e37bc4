"""Combines the services of predictions; ends all waits when the process stops."""

from __future__ import annotations

import asyncio
import contextlib

import redis
import redis.asyncio
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from inference_gateway.auth.authenticator import Authenticator
from inference_gateway.errors import GatewayError
from inference_gateway.http.body_limit import InFlight
from inference_gateway.lifecycle import cancel
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.lifecycle.wire import has_ended
from inference_gateway.models.catalog import ModelCatalog
from inference_gateway.predictions import repository
from inference_gateway.predictions.creating.creation import Creation
from inference_gateway.predictions.creating.new_rows import NewRows
from inference_gateway.predictions.creating.queue_sizes import QueueSizes
from inference_gateway.predictions.creating.quota import PredictionQuotas, counter
from inference_gateway.predictions.creating.storing import Storing
from inference_gateway.predictions.pages import Pages
from inference_gateway.predictions.reading import Reader
from inference_gateway.predictions.streaming.endings import Endings
from inference_gateway.predictions.streaming.readers import Readers
from inference_gateway.predictions.streaming.streams import Streams
from inference_gateway.predictions.streaming.tails import Tails
from inference_gateway.predictions.waiting.event_hub import EventHub
from inference_gateway.quotas.queued import Room
from inference_gateway.settings import GatewaySettings

RECHECK_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
_LAST_CALL_SECONDS = 2.5
"""Seconds after the stop signal; creations that are not stored by then get Unconfirmed."""


class PredictionService:
    """`start` and everything async belong on one event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        redis_sync: redis.Redis,
        redis_async: redis.asyncio.Redis,
        catalog: ModelCatalog,
        authenticator: Authenticator,
        in_flight: InFlight | None = None,
        *,
        recheck_seconds: float = RECHECK_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        in_flight = in_flight or InFlight(settings.max_bytes_in_flight)
        self.settings = settings
        self._engine = engine
        self._redis = redis_sync
        self._loop: asyncio.AbstractEventLoop | None = None
        self.hub = EventHub(
            redis_async, lambda waiting: repository.ended(engine, waiting), recheck_seconds
        )
        authenticator.waiting, authenticator.ended = self.hub.callers, self.hub.release
        pages = Pages(redis_async)
        self.reader = Reader(settings, engine, catalog, in_flight, pages)

        room = Room()
        self._sizes = QueueSizes(redis_sync, settings.max_open_predictions, room)
        self.rows = NewRows(settings, catalog, self._sizes)
        self.storing = Storing(
            settings, engine, redis_sync, redis_async, self._sizes, self.hub.waited_for
        )
        quotas = PredictionQuotas(settings, counter(engine), room)
        self.creation = Creation(
            engine, self.rows, quotas, self.storing, self.hub, self.reader, authenticator
        )

        self._tails = Tails(redis_async)
        self._endings = Endings(in_flight, settings.max_streams)
        self.streams = Streams(
            self.reader,
            self.hub,
            self._tails,
            pages,
            self._endings,
            Readers(settings),
            authenticator,
            heartbeat_seconds,
        )

    async def start(self) -> None:
        """Needs neither PostgreSQL nor Redis."""
        self._loop = asyncio.get_running_loop()
        self.storing.start()
        await self._sizes.start()
        await self.hub.start()
        await self._tails.start()

    async def stop(self) -> None:
        await self.hub.stop()
        await self._tails.stop()
        await self.storing.stop()
        await self._sizes.stop()
        self.reader.close()
        self.rows.close()
        self._endings.close()

    def release(self) -> None:
        """Answer all waiting requests and end all streams: the process is about to stop.

        Safe from any thread.
        """
        loop = self._loop
        assert loop is not None
        loop.call_soon_threadsafe(self.hub.release)
        loop.call_soon_threadsafe(loop.call_later, _LAST_CALL_SECONDS, self.storing.abandon)

    async def cancel(self, prediction_id: str, owner: str) -> Row:
        """Raises NotFound; TooManyRequests, Unavailable: it is large, and nothing was done."""
        row = await self.reader.row(prediction_id, owner)
        if has_ended(row):
            return row
        now = await asyncio.to_thread(
            cancel.cancel, self._engine, self._redis, str(row["id"]), owner
        )
        if has_ended(now):
            with contextlib.suppress(GatewayError, SQLAlchemyError):
                return await self.reader.row(prediction_id, owner)
        return {**row, **now}
