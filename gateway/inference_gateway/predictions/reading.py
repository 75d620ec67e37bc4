"""Reads predictions for responses: whole rows only if there is space for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import Engine

from inference_contract.predictions import PredictionStatus
from inference_gateway.auth.accounts import Principal
from inference_gateway.background.lanes import Lane
from inference_gateway.errors import NotFound
from inference_gateway.http.body_limit import InFlight
from inference_gateway.lifecycle.prediction import Row, State
from inference_gateway.models.catalog import CatalogModel, ModelCatalog, belongs_to
from inference_gateway.predictions import repository
from inference_gateway.predictions.pages import Pages, partial_output
from inference_gateway.predictions.states import States
from inference_gateway.predictions.waiting import status_detail
from inference_gateway.settings import GatewaySettings

T = TypeVar("T")
_STARTING = PredictionStatus.STARTING.value


class Reader:
    """For one event loop.

    Args:
        pages: of predictions' own streams.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        catalog: ModelCatalog,
        in_flight: InFlight,
        pages: Pages,
    ) -> None:
        self._max_page_bytes = settings.max_page_bytes
        self._engine = engine
        self._catalog = catalog
        self._in_flight = in_flight
        self._pages = pages
        # Before a response counts as in flight it is in memory more than once.
        most = settings.max_connections
        self._large = Lane("large answers", 2, most_waiting=most, most_of_one=most)
        self._paging = Lane("pages", 3, most_waiting=most, most_of_one=most)
        self._states = States(lambda wanted: repository.states(engine, wanted))

    def close(self) -> None:
        self._large.close()
        self._paging.close()

    async def get(self, prediction_id: str, owner: str) -> Row:
        """The row; while it runs, with the output so far. Raises NotFound, TooManyRequests,
        Unavailable."""
        row = await self.row(prediction_id, owner)
        if row["status"] != PredictionStatus.PROCESSING:
            return row
        try:
            output = await partial_output(self._pages, row, is_text=self._is_text(row["model"]))
        except (RedisError, OSError):
            return row
        return row if output is None else {**row, "output": output}

    async def row(self, prediction_id: str, owner: str) -> Row:
        """The stored row. Raises NotFound, TooManyRequests, Unavailable."""
        which = _parse_id(prediction_id)
        found = await asyncio.to_thread(repository.get_small, self._engine, which, owner)
        if found is not None:
            return found
        return await self.large(prediction_id, owner, lambda row: row)

    async def large(self, prediction_id: str, owner: str, made: Callable[[Row], T]) -> T:
        """Read a row on a thread, if there is space for it, and return `made(row)`.

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

    async def state(self, prediction_id: str, owner: str) -> State:
        """The row without its large columns. Raises NotFound."""
        row = await self.find_state(_parse_id(prediction_id), owner)
        if row is None:
            raise _unknown(prediction_id)
        return row

    async def find_state(self, prediction_id: UUID, owner: str) -> State | None:
        """As `state`; None if there is none."""
        return await self._states.find(prediction_id, owner)

    async def page(
        self,
        wanted: repository.Filter,
        limit: int,
        older_than: UUID | None,
        newer_than: UUID | None,
        made: Callable[[repository.Page], T],
    ) -> T:
        """Read a page on a thread and convert it. Raises TooManyRequests, Unavailable."""
        owner, most = wanted.owner, self._max_page_bytes

        def read() -> T:
            room = self._in_flight.room(owner)
            page = repository.page(self._engine, wanted, limit, older_than, newer_than, most, room)
            if page.size > room:
                raise self._in_flight.refusal(owner, page.size)
            return made(page)

        return await self._paging.run(owner, read)

    def detail(self, row: State, user: Principal) -> dict[str, str] | None:
        """What the prediction waits for; None once it runs."""
        if row["status"] != _STARTING:
            return None
        entry = self._catalog.entry(row["model"])
        is_trusted = user.is_admin or (entry is not None and belongs_to(entry, user))
        return status_detail.detail(entry, row, is_trusted=is_trusted)

    async def waits_for(self, prediction_id: str, user: Principal) -> dict[str, str] | None:
        """`detail` of its current row. Raises NotFound."""
        return self.detail(await self.state(prediction_id, user.user_id), user)

    def with_detail(self, row: Row, user: Principal) -> Row:
        """The row with its `detail`."""
        said = self.detail(row, user)
        return row if said is None else {**row, "status_detail": said}

    def _is_text(self, model_id: str) -> bool:
        entry = self._catalog.entry(model_id)
        return isinstance(entry, CatalogModel) and entry.model.spec.type.streams_text


def _unknown(prediction_id: str) -> NotFound:
    return NotFound(f"no prediction {prediction_id}: GET /v1/predictions lists yours")


def _parse_id(prediction_id: str) -> UUID:
    """Raises NotFound if the text is not an id."""
    try:
        return UUID(prediction_id)
    except ValueError:
        raise NotFound(f"no prediction {prediction_id[:100]!r}") from None
