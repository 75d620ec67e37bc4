"""Creating, reading and cancelling predictions: decides; the parts below it act."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson
import redis
import redis.asyncio
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from inference_contract import queues
from inference_contract.modeltype import ModelType
from inference_contract.predictions import PredictionStatus
from inference_gateway import db, ending
from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.authenticator import Authenticator
from inference_gateway.errors import (
    GatewayError,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
    Unconfirmed,
)
from inference_gateway.hub import Hub
from inference_gateway.lanes import Lane
from inference_gateway.limits import InFlight
from inference_gateway.models.budget import ThreadBudget, TooCostly
from inference_gateway.models.catalog import CatalogModel, ModelCatalog, belongs_to
from inference_gateway.predictions import (
    endings,
    ids,
    live,
    metrics,
    repository,
    requests,
    sse,
    waiting,
)
from inference_gateway.predictions.endings import Endings, Events
from inference_gateway.predictions.enqueuer import Enqueuer
from inference_gateway.predictions.ids import IdSource
from inference_gateway.predictions.queue_sizes import QueueSizes
from inference_gateway.predictions.readers import Readers
from inference_gateway.predictions.requests import CreateBody, CreateHeaders, LargeBody
from inference_gateway.predictions.schemas import Row, has_ended
from inference_gateway.predictions.states import States
from inference_gateway.predictions.store import LARGE_BYTES, Store
from inference_gateway.predictions.tails import Tails
from inference_gateway.predictions.waiters import Ended, Waiter, Watcher
from inference_gateway.predictions.writer import NewPrediction, Writer, unconfirmed
from inference_gateway.quotas.predictions import PredictionQuotas, counter
from inference_gateway.quotas.queued import Room
from inference_gateway.settings import Settings
from inference_gateway.stored import PassedOn
from inference_gateway.turns import Turns
from inference_gateway.webhooks.guard import check_url

log = logging.getLogger(__name__)

T = TypeVar("T")
WRITERS = 2
LONGEST_WAIT_SECONDS = 55.0
"""However long a caller wants to wait: proxies in front cut at 60."""
RECHECK_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
_LAST_CALL_SECONDS = 2.5
"""What is not stored so long after the process was told to stop is answered without knowing."""
_DEFAULT_EVENTS = ["completed"]
_STARTING = PredictionStatus.STARTING.value


@dataclass(frozen=True, slots=True)
class Created:
    row: Row
    is_unfinished: bool = False
    """The caller wanted to wait for its end, and it has not ended."""


@dataclass(frozen=True, slots=True)
class EventStream:
    events: AsyncIterator[bytes]
    detail: dict[str, str] | None
    """What the prediction waits for."""
    end: Callable[[], None]
    """Nobody reads any more: the events end."""
    leave: Callable[[], None]
    """To be called in the end, though nobody began to read."""


class PredictionService:
    """`start` and everything async belong on one event loop."""

    def __init__(
        self,
        settings: Settings,
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
        self.settings = settings
        self.authenticator = authenticator
        self._engine = engine
        self._redis = redis_sync
        self._redis_async = redis_async
        self._catalog = catalog
        self._heartbeat_seconds = heartbeat_seconds
        self._in_flight = in_flight or InFlight(settings.max_bytes_in_flight)
        # Before an answer counts as under way it is in memory more than once.
        most = settings.max_connections
        self._large = Lane("large answers", 2, most_waiting=most, most_of_one=most)
        self._paging = Lane("pages", 3, most_waiting=most, most_of_one=most)
        self._ids = IdSource()
        self._hub = Hub(redis_async, self._ended, recheck_seconds)
        self._tails = Tails(redis_async)
        self._pages = live.Pages(redis_async)
        self._readers = Readers(settings)
        self._endings = Endings(self._in_flight, settings.max_streams)
        self._turns = Turns()
        """Of readers of streams."""
        self._states = States(lambda wanted: repository.states(engine, wanted))
        authenticator.waiting, authenticator.ended = self._hub.callers, self._hub.release
        # As many as may wait: MAX_BYTES_IN_FLIGHT bounds what they hold.
        self.bodies = Lane("large requests", most_waiting=1000, most_of_one=1000)
        self._checks = Lane("checks of large inputs", most_waiting=50, most_of_one=4)
        room = Room()
        self._quotas = PredictionQuotas(settings, counter(engine), room)
        self._sizes = QueueSizes(redis_sync, settings.max_open_predictions, room)
        self._threads = ThreadPoolExecutor(2 * WRITERS + 2, "writer")
        self._enqueuer = Enqueuer(redis_sync, redis_async, self._threads)
        stores = [
            Store(
                lambda: db.connect_async(settings),
                lambda rows: repository.of_batch(engine, rows),
                self._threads,
            )
            for _ in range(WRITERS + 1)
        ]
        self._writer = Writer(stores[1:], self._enqueuer, self._sizes, self._hub.waited_for)
        # PostgreSQL takes half a second for a batch of large ones: small ones pass them by.
        self._writer_of_large = Writer(stores[:1], self._enqueuer, self._sizes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._storing: set[NewPrediction] = set()
        """Those whose callers wait for the commit."""

    async def start(self) -> None:
        """Needs neither PostgreSQL nor Redis."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._writer_of_large.start()
        await self._sizes.start()
        await self._hub.start()
        await self._tails.start()

    async def stop(self) -> None:
        await self._hub.stop()
        await self._tails.stop()
        await asyncio.gather(self._writer.stop(), self._writer_of_large.stop())
        await self._sizes.stop()
        await self._enqueuer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for lane in (self._large, self._paging, self._checks):
            lane.close()
        self.bodies.close()
        self._endings.close()

    def release(self) -> None:
        """Answer everybody who waits, and end all streams: the process is about to stop.

        Safe from any thread.
        """
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._hub.release)
        self._loop.call_soon_threadsafe(self._loop.call_later, _LAST_CALL_SECONDS, self._abandon)

    def _abandon(self) -> None:
        for new in self._storing:
            if not new.future.done():
                new.future.set_exception(unconfirmed(new))

    async def create(
        self,
        user: Principal,
        body: CreateBody,
        headers: CreateHeaders,
        path_model: str | None = None,
        base_url: str | None = None,
    ) -> Created:
        """Store a prediction and put it on its queue; if wanted, wait for its end.

        Args:
            base_url: what the caller reached us at: the links of its webhooks begin with it.

        Raises:
            GatewayError: nothing was stored.
            Unconfirmed: or it was.
        """
        began = time.perf_counter()
        seconds = min(headers.wait_seconds, LONGEST_WAIT_SECONDS)
        if headers.idempotency_key is not None:
            await self._require_free(user, headers.idempotency_key)
        try:
            row, size = await self._new_row(user, body, headers, path_model)
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
        self.authenticator.require(user)
        if not created.is_unfinished:
            metrics.WAIT_SECONDS.observe(time.perf_counter() - began)
        return created

    async def _require_free(self, user: Principal, key: str) -> None:
        """Raises Invalid if the id that the caller chose is one of ours, of a prediction of theirs.

        Others' stay out of it: each account has its own."""
        chosen = ids.chosen_by(key)
        if chosen is None:
            return
        stored = await self._states.find(UUID(chosen), user.user_id)
        if stored is not None and stored["idempotency_key"] != key:
            raise _used_before(key)

    async def _accepted(
        self, owner: str, body: CreateBody, headers: CreateHeaders, path_model: str | None
    ) -> Row | None:
        """What this request made when it came before: its model may be gone since, or changed.

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
        hashed = await self.bodies.run(
            owner, requests.request_hash, body, model_id, headers.cancel_after
        )
        if stored["request_hash"] != hashed:
            return None
        metrics.REPLAYED.inc()
        return await self._get(str(stored["id"]), owner)

    async def get(self, prediction_id: str, owner: str) -> Row:
        """The row; while it runs, with the output so far. Raises NotFound, TooManyRequests,
        Unavailable."""
        row = await self._get(prediction_id, owner)
        if row["status"] != PredictionStatus.PROCESSING:
            return row
        try:
            output = await live.partial_output(
                self._pages, row, is_text=self._is_text(row["model"])
            )
        except (RedisError, OSError):
            return row
        return row if output is None else {**row, "output": output}

    def detail(self, row: Row, user: Principal) -> dict[str, str] | None:
        """What the prediction waits for; None once it runs."""
        if row["status"] != _STARTING:
            return None
        entry = self._catalog.entry(row["model"])
        is_trusted = user.is_admin or (entry is not None and belongs_to(entry, user))
        return waiting.detail(entry, row, is_trusted=is_trusted)

    async def waits_for(self, prediction_id: str, user: Principal) -> dict[str, str] | None:
        """`detail` of its row as it is now. Raises NotFound."""
        return self.detail(await self._state(prediction_id, user.user_id), user)

    def with_detail(self, row: Row, user: Principal) -> Row:
        """The row, and what it waits for."""
        said = self.detail(row, user)
        return row if said is None else {**row, "status_detail": said}

    async def page(
        self,
        wanted: repository.Filter,
        limit: int,
        older_than: UUID | None,
        newer_than: UUID | None,
        made: Callable[[repository.Page], T],
    ) -> T:
        """What is made of a page, on a thread. Raises TooManyRequests, Unavailable."""
        owner, most = wanted.owner, self.settings.max_page_bytes

        def read() -> T:
            room = self._in_flight.room(owner)
            page = repository.page(self._engine, wanted, limit, older_than, newer_than, most, room)
            if page.size > room:
                raise self._in_flight.refusal(owner, page.size)
            return made(page)

        return await self._paging.run(owner, read)

    async def cancel(self, prediction_id: str, owner: str) -> Row:
        """Raises NotFound; TooManyRequests, Unavailable: it is large, and nothing was done."""
        row = await self._get(prediction_id, owner)
        if has_ended(row):
            return row
        now = await asyncio.to_thread(
            ending.cancel, self._engine, self._redis, str(row["id"]), owner
        )
        if has_ended(now):
            with contextlib.suppress(GatewayError, SQLAlchemyError):
                return await self._get(prediction_id, owner)
        return {**row, **now}

    async def stream(
        self, prediction_id: str, user: Principal, last_event_id: str | None
    ) -> EventStream:
        """Server-sent events until the prediction's end, or that of the caller's token. Raises
        NotFound, TooManyRequests, Unavailable at once."""
        self._readers.enter(user)
        try:
            return await self._stream(prediction_id, user, last_event_id)
        except BaseException:
            self._readers.leave(user)
            raise

    async def _stream(
        self, prediction_id: str, user: Principal, last_event_id: str | None
    ) -> EventStream:
        row = await self._state(prediction_id, user.user_id)
        watcher = Watcher(queues.model_key(row["model"]), str(row["id"]), user, self._turns)
        await self._watch(watcher)
        try:
            # Once more: it may have ended before the watcher was there.
            row = await self._state(prediction_id, user.user_id)
            self.authenticator.require(user)
        except BaseException:
            self._unwatch(watcher)
            raise
        if has_ended(row):
            watcher.resolve(Ended(row, is_whole=False))
        events = live.follow(
            self._pages,
            row,
            lambda events: self._finish(prediction_id, user.user_id, events),
            watcher,
            sse.parse_id(last_event_id),
            self._heartbeat_seconds,
        )

        def leave() -> None:
            self._unwatch(watcher)
            self._readers.leave(user)

        return EventStream(events, self.detail(row, user), lambda: watcher.resolve(None), leave)

    async def _watch(self, watcher: Watcher) -> None:
        await self._hub.add(watcher)
        try:
            await self._tails.add(watcher)
        except BaseException:
            self._hub.leave(watcher)
            raise

    def _unwatch(self, watcher: Watcher) -> None:
        self._hub.leave(watcher)
        self._tails.leave(watcher)

    async def _new_row(
        self, user: Principal, body: CreateBody, headers: CreateHeaders, path_model: str | None
    ) -> tuple[dict[str, Any], int]:
        """A row that can be stored, and the size of its input. Raises GatewayError."""
        model_id, version = requests.named_model(body, path_model)
        model = self._catalog.get(model_id, user)
        current = model.model.spec.version
        if version not in (None, current):
            raise NotFound(f"{model_id} has no version {version}: it is at version {current}")
        try:
            value = model.validate_input(body.input)
        except TooCostly:
            value = await self._checked(user.user_id, model, body.input)
        given = (body, value, model_id, headers, self.settings.max_input_bytes)
        if isinstance(body, LargeBody):
            content, hashed = await self.bodies.run(user.user_id, requests.encode, *given)
        else:
            content, hashed = requests.encode(*given)
        if body.webhook is not None:
            check_url(body.webhook, self.settings.webhook_allow_loopback and user.is_admin)
        self._sizes.check(model_id)
        key, cancel_after = headers.idempotency_key, headers.cancel_after
        prediction_id, token = self._ids.new()
        row = {
            "id": prediction_id,
            "owner": user.user_id,
            "model": model_id,
            "version": current,
            "status": _STARTING,
            "attempt": 1,
            "token": token,
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
            "idempotency_key": key,
            "request_hash": hashed,
            "created_at": None,
            "started_at": None,
            "completed_at": None,
            "deadline": None,
            "lives_seconds": cancel_after or self.settings.prediction_deadline_seconds,
        }
        return row, len(content)

    async def _checked(self, user_id: str, model: CatalogModel, value: object) -> dict[str, Any]:
        """On a thread: it takes long. Raises Invalid, TooManyRequests, Unavailable."""
        seconds = self.settings.validation_seconds
        try:
            return await self._checks.run(
                user_id, lambda: model.validate_input(value, ThreadBudget(seconds))
            )
        except TooCostly:
            raise Invalid(
                f"to check the input against the model's schema takes more than {seconds:g} s "
                "(VALIDATION_SECONDS): send less at once, or simplify `items`"
            ) from None

    async def _store(self, row: dict[str, Any], size: int) -> Created:
        new = NewPrediction(row, size, asyncio.get_running_loop().create_future())
        self._put(new)
        stored = await self._stored(new, new.future)
        return Created(row) if stored is row else await self._read(_same_request(row, stored))

    def _put(self, new: NewPrediction) -> None:
        """Raises Unavailable."""
        (self._writer_of_large if new.size > LARGE_BYTES else self._writer).put(new)

    async def _stored(self, new: NewPrediction, outcome: Awaitable[Row]) -> Row:
        self._storing.add(new)
        try:
            return await outcome
        finally:
            self._storing.discard(new)

    async def _store_and_wait(
        self, user: Principal, row: dict[str, Any], size: int, seconds: float
    ) -> Created:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        waiter = Waiter(row["id"], user)
        await self._hub.add(waiter)
        timer = loop.call_at(until, waiter.resolve, None)
        try:
            new = NewPrediction(row, size, waiter.end, quiet=True)
            self._put(new)
            end: Any = await waiter.end
            if end is None:
                end = await self._stored(new, new.stored())
        finally:
            timer.cancel()
            self._hub.leave(waiter)
        if isinstance(end, Ended):
            # Nobody may have said yet when it was created, though it has ended since.
            known = row["created_at"] is not None and end.is_whole
            return Created({**row, **end.columns}) if known else await self._read(row)
        if end is row:
            return Created(row, is_unfinished=True)
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
            # It may have ended before the waiter was there.
            now = await self._state(str(row["id"]), str(row["owner"]))
            end = Ended(now, is_whole=False) if has_ended(now) else await waiter.end
        except SQLAlchemyError as error:
            return _unread(row, error)
        finally:
            timer.cancel()
            self._hub.leave(waiter)
        if end is None:
            return Created({**row, **now}, is_unfinished=True)
        return Created({**row, **end.columns}) if end.is_whole else await self._read(row)

    async def _read(self, row: Row) -> Created:
        """The whole row of a prediction; as unfinished while there is no room for it."""
        try:
            return Created(await self._get(str(row["id"]), str(row["owner"])))
        except (TooManyRequests, Unavailable):
            return Created(row, is_unfinished=True)
        except SQLAlchemyError as error:
            return _unread(row, error)

    async def _get(self, prediction_id: str, owner: str) -> Row:
        """For those who pass it on. Raises NotFound, TooManyRequests, Unavailable."""
        found = await asyncio.to_thread(
            repository.get_small, self._engine, _parse_id(prediction_id), owner
        )
        if found is not None:
            return found
        return await self._read_large(prediction_id, owner, lambda row: row)

    async def _read_large(self, prediction_id: str, owner: str, made: Callable[[Row], T]) -> T:
        """What is made of a row, on a thread; read only if there is room for it.

        Raises:
            NotFound, TooManyRequests, Unavailable
        """
        which = _parse_id(prediction_id)

        def read() -> T:
            room = self._in_flight.room(owner)
            row = repository.get_large(self._engine, which, owner, room)
            if row is None:
                raise _unknown(prediction_id)
            if row["bytes"] > room:
                raise self._in_flight.refusal(owner, row["bytes"])
            return made(row)

        return await self._large.run(owner, read)

    async def _finish(
        self, prediction_id: str, owner: str, events: Events
    ) -> AsyncGenerator[bytes, None]:
        """Raises ConnectionResetError."""
        try:
            ending = await self._read_large(prediction_id, owner, endings.ending)
        except (TooManyRequests, Unavailable) as error:
            raise ConnectionResetError(error.detail) from None
        async with aclosing(self._endings.events(owner, ending, events)) as pieces:
            async for piece in pieces:
                yield piece

    async def _state(self, prediction_id: str, owner: str) -> Row:
        """The row without what may be large. Raises NotFound."""
        row = await self._states.find(_parse_id(prediction_id), owner)
        if row is None:
            raise _unknown(prediction_id)
        return row

    def _is_text(self, model_id: str) -> bool:
        """Whether pieces of output are text that is joined; custom classes stream lists."""
        entry = self._catalog.entry(model_id)
        return isinstance(entry, CatalogModel) and entry.model.spec.type is not ModelType.CUSTOM

    def _ended(self, waiting: list[str]) -> list[Row]:
        return repository.ended(self._engine, waiting)


def _same_request(row: Row, stored: Row) -> Row:
    """What is stored of this row or, under its idempotency key, of the same request's: it need not
    be all.

    Raises:
        Invalid: if the key came with another request before.
    """
    if str(stored["id"]) == row["id"]:
        return {**row, **stored}
    if stored["request_hash"] != row["request_hash"]:
        raise _used_before(row["idempotency_key"])
    metrics.REPLAYED.inc()
    return {**row, **stored}


def _unread(row: Row, error: SQLAlchemyError) -> Created:
    """The answer about a prediction that is stored, and whose row cannot be read just now.

    Raises:
        Unconfirmed: if too little of it is known.
    """
    log.warning("a caller who waited gets what is known: %s", db.describe(error))
    if row["created_at"] is None:
        raise Unconfirmed(
            "PostgreSQL does not answer; the prediction is stored: look for it before you send the "
            "request again",
            prediction_id=str(row["id"]),
        ) from error
    return Created(row, is_unfinished=True)


def _unknown(prediction_id: str) -> NotFound:
    return NotFound(f"no prediction {prediction_id}: GET /v1/predictions lists yours")


def _used_before(key: str | None) -> Invalid:
    field = "Idempotency-Key" if ids.chosen_by(key) is None else "prediction_id"
    message = "was used before, with another request"
    return Invalid(f"{field} {message}", errors=[{"field": field, "message": message}])


def _parse_id(prediction_id: str) -> UUID:
    """Raises NotFound: what is no id is no prediction's."""
    try:
        return UUID(prediction_id)
    except ValueError:
        raise NotFound(f"no prediction {prediction_id[:100]!r}") from None
