"""Routes of predictions; creating one is in `creating/endpoint.py`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BeforeValidator
from sqlalchemy.exc import SQLAlchemyError
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inference_contract.predictions import PredictionStatus
from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.dependencies import AppServices, CurrentUser
from inference_gateway.errors import GatewayError, Invalid, NotFound, raises
from inference_gateway.http import accept_header
from inference_gateway.http.response import send_pieces
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.lifecycle.wire import encode
from inference_gateway.predictions import openapi
from inference_gateway.predictions.creating import multipart
from inference_gateway.predictions.creating.endpoint import CreatePrediction
from inference_gateway.predictions.cursor import Cursor
from inference_gateway.predictions.repository import Filter, Page
from inference_gateway.predictions.streaming import comments
from inference_gateway.predictions.streaming.streams import EventStream
from inference_gateway.services import Services

EVENT_STREAM = "text/event-stream"
_JSON = "application/json"


def _no_number(value: object) -> object:
    """Raises ValueError: pydantic would take a number for seconds or milliseconds since 1970."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("write a date and time: 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_no_number)]


class _Events(StreamingResponse):
    """Calls `leave` in any case: the `finally` of a generator that was never started does not run.

    Starlette's own response uses a task group for each stream.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], stream: EventStream) -> None:
        super().__init__(events, media_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
        self._events = events
        self._stream = stream

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        client = asyncio.create_task(self._end_with_client(receive))
        try:
            async with aclosing(self._events):
                await self.stream_response(send)
        finally:
            client.cancel()
            self._stream.leave()

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.end()


class Json(Response):
    """JSON in pieces that are not joined."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(media_type=_JSON)
        self._pieces = pieces
        self.headers["content-length"] = str(sum(map(len, pieces)))

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        await send_pieces(self._pieces, send)


class _PredictionId(StringConvertor):
    """Any text without a slash."""

    regex = f"(?!{multipart.NAME}$)[^/]+"


register_url_convertor("prediction", _PredictionId())
router = APIRouter(tags=["predictions"])
router.routes += [
    Route("/v1/models/{owner}/{name}/predictions", CreatePrediction(), methods=["POST"]),
    Route("/v1/predictions/{prediction_id:prediction}", CreatePrediction(), methods=["PUT"]),
]


@router.get("/v1/predictions", responses={200: openapi.PAGE})
@raises(Invalid)
async def list_predictions(
    request: Request,
    user: CurrentUser,
    services: AppServices,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    status: PredictionStatus | None = None,
    model: str | None = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> Response:
    """Your predictions, newest first. Times without a zone are UTC."""
    at = Cursor.decode(cursor) if cursor else Cursor()
    wanted = Filter(user.user_id, status, model, _utc(created_after), _utc(created_before))
    base_url = services.base_url(request)

    def url(at: Cursor) -> str:
        query = [(k, v) for k, v in request.query_params.items() if k != "cursor"]
        return f"{base_url}/v1/predictions?{urlencode([*query, ('cursor', at.encode())])}"

    def shown(page: Page) -> list[bytes]:
        rows = page.rows
        links = {
            "next": url(Cursor(older_than=rows[-1]["id"])) if rows and page.has_older else None,
            "previous": url(Cursor(newer_than=rows[0]["id"])) if rows and page.has_newer else None,
        }
        pieces = [orjson.dumps(links)[:-1], b',"results":[']
        for number, row in enumerate(rows):
            pieces += [b"," if number else b"", *_shown(services, user, row, base_url)]
        return [*pieces, b"]}"]

    reader = services.predictions.reader
    return Json(await reader.page(wanted, limit, at.older_than, at.newer_than, shown))


@router.get(
    "/v1/predictions/{prediction_id:prediction}",
    response_model=None,
    responses={200: openapi.PREDICTION_OR_EVENTS},
)
@raises(NotFound)
async def get_prediction(
    prediction_id: str,
    request: Request,
    user: CurrentUser,
    services: AppServices,
    accept: Annotated[str, Header()] = "*/*",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """One of your predictions; with `Accept: text/event-stream`, its stream."""
    accept = ",".join(request.headers.getlist("accept")) or accept
    if accept_header.prefers(accept, EVENT_STREAM, _JSON):
        return await _stream(services, prediction_id, user, last_event_id)
    row = await services.predictions.reader.get(prediction_id, user.user_id)
    return Json(_shown(services, user, row, services.base_url(request)))


@router.get(
    "/v1/predictions/{prediction_id:prediction}/stream",
    response_class=StreamingResponse,
    responses={200: openapi.EVENTS},
)
@raises(NotFound)
async def stream_prediction(
    prediction_id: str,
    user: CurrentUser,
    services: AppServices,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events `output`, `logs`, `error` and `done`, from the beginning or after
    `Last-Event-ID`."""
    return await _stream(services, prediction_id, user, last_event_id)


@router.post("/v1/predictions/{prediction_id:prediction}/cancel", responses={200: openapi.ONE})
@raises(NotFound)
async def cancel_prediction(
    prediction_id: str, request: Request, user: CurrentUser, services: AppServices
) -> Response:
    """Stop it. Does nothing to one that has ended."""
    row = await services.predictions.cancel(prediction_id, user.user_id)
    return Json(_shown(services, user, row, services.base_url(request)))


def _shown(services: Services, user: Principal, row: Row, base_url: str) -> list[bytes]:
    return encode(services.predictions.reader.with_detail(row, user), base_url)


async def _stream(
    services: Services, prediction_id: str, user: Principal, last_event_id: str | None
) -> Response:
    stream = await services.predictions.streams.open(prediction_id, user, last_event_id)

    async def why() -> dict[str, str] | None:
        with suppress(
            GatewayError, SQLAlchemyError, OSError
        ):  # A stream goes on without PostgreSQL.
            return await services.predictions.reader.waits_for(prediction_id, user)
        return None

    return _Events(comments.with_detail(stream.events, stream.detail, why), stream)


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
