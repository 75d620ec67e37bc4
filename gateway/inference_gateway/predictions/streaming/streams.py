"""Opens event streams of predictions and tracks their readers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from inference_contract import queues
from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.authenticator import Authenticator
from inference_gateway.errors import TooManyRequests, Unavailable
from inference_gateway.http.callback_queue import CallbackQueue
from inference_gateway.lifecycle.wire import has_ended
from inference_gateway.predictions.pages import Pages
from inference_gateway.predictions.reading import Reader
from inference_gateway.predictions.streaming import endings, sse
from inference_gateway.predictions.streaming.endings import Endings, Events
from inference_gateway.predictions.streaming.follow import follow
from inference_gateway.predictions.streaming.readers import Readers
from inference_gateway.predictions.streaming.tails import Tails
from inference_gateway.predictions.waiting.event_hub import EventHub
from inference_gateway.predictions.waiting.waiters import Ended, StreamWaiter


@dataclass(frozen=True, slots=True)
class EventStream:
    events: AsyncIterator[bytes]
    detail: dict[str, str] | None
    """The status detail: why the prediction waits."""
    end: Callable[[], None]
    """Ends the events; called when the client has disconnected."""
    leave: Callable[[], None]
    """To be called at the end, even if reading never began."""


class Streams:
    """For one event loop."""

    def __init__(
        self,
        reader: Reader,
        hub: EventHub,
        tails: Tails,
        pages: Pages,
        endings: Endings,
        readers: Readers,
        authenticator: Authenticator,
        heartbeat_seconds: float,
    ) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._reader = reader
        self._hub = hub
        self._tails = tails
        self._pages = pages
        self._endings = endings
        self._readers = readers
        self._authenticator = authenticator
        self._callbacks = CallbackQueue()

    async def open(
        self, prediction_id: str, user: Principal, last_event_id: str | None
    ) -> EventStream:
        """Server-sent events until the prediction's end, or that of the caller's token. Raises
        NotFound, TooManyRequests, Unavailable at once."""
        self._readers.enter(user)
        try:
            return await self._open(prediction_id, user, last_event_id)
        except BaseException:
            self._readers.leave(user)
            raise

    async def _open(
        self, prediction_id: str, user: Principal, last_event_id: str | None
    ) -> EventStream:
        row = await self._reader.state(prediction_id, user.user_id)
        waiter = StreamWaiter(queues.model_key(row["model"]), str(row["id"]), user, self._callbacks)
        await self._add(waiter)
        try:
            # Again, as it may have ended before the waiter was registered.
            row = await self._reader.state(prediction_id, user.user_id)
            self._authenticator.require(user)
        except BaseException:
            self._remove(waiter)
            raise
        if has_ended(row):
            waiter.resolve(Ended(row, is_whole=False))
        events = follow(
            self._pages,
            row,
            lambda events: self._finish(prediction_id, user.user_id, events),
            waiter,
            sse.parse_id(last_event_id),
            self.heartbeat_seconds,
        )

        def leave() -> None:
            self._remove(waiter)
            self._readers.leave(user)

        detail = self._reader.detail(row, user)
        return EventStream(events, detail, lambda: waiter.resolve(None), leave)

    async def _add(self, waiter: StreamWaiter) -> None:
        await self._hub.add(waiter)
        try:
            await self._tails.add(waiter)
        except BaseException:
            self._hub.leave(waiter)
            raise

    def _remove(self, waiter: StreamWaiter) -> None:
        self._hub.leave(waiter)
        self._tails.leave(waiter)

    async def _finish(
        self, prediction_id: str, owner: str, events: Events
    ) -> AsyncGenerator[bytes, None]:
        """Raises ConnectionResetError."""
        try:
            ending = await self._reader.large(prediction_id, owner, endings.ending)
        except (TooManyRequests, Unavailable) as error:
            raise ConnectionResetError(error.detail) from None
        async with aclosing(self._endings.events(owner, ending, events)) as pieces:
            async for piece in pieces:
                yield piece
