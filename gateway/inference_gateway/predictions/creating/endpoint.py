"""`POST /v1/predictions` as a plain ASGI endpoint: the hot path.

A FastAPI route with a pydantic body costs three times as much as this whole endpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.types import Receive, Scope, Send

from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from inference_gateway.http.body_limit import SMALL_BYTES, read_body
from inference_gateway.http.response import send_pieces
from inference_gateway.lifecycle import ids
from inference_gateway.lifecycle.wire import to_wire
from inference_gateway.postgres import stored
from inference_gateway.predictions.creating import requests
from inference_gateway.predictions.creating.creation import Created
from inference_gateway.predictions.creating.requests import CreateBody, CreateHeaders
from inference_gateway.services import Services

Headers = list[tuple[bytes, bytes]]


class CreatePrediction:
    """Also at `/v1/models/{owner}/{name}/predictions`, and at PUT of a prediction."""

    raises = (Unauthorized, Forbidden, NotFound, Conflict, Invalid)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises GatewayError, which the app's handler turns into a response."""
        services: Services = scope["app"].state.services
        given = dict(scope["headers"])
        authorization = given.get(b"authorization")
        user = await services.authenticate(
            None if authorization is None else authorization.decode("latin-1")
        )
        headers = _headers(scope, given)
        content = await read_body(receive)
        if len(content) <= SMALL_BYTES:
            body = requests.decode(content)
        else:
            bodies = services.predictions.rows.bodies
            body = await bodies.run(user.user_id, requests.decode_large, content)
        await self.answer(scope, send, user, body, headers)

    async def answer(
        self, scope: Scope, send: Send, user: Principal, body: CreateBody, headers: CreateHeaders
    ) -> None:
        """Create it. Raises GatewayError."""
        service = scope["app"].state.services.predictions
        base_url = (service.settings.public_url or _base_url(scope)).rstrip("/")
        created = await service.creation.create(user, body, headers, _path_model(scope), base_url)
        content = to_wire(created.row, base_url)
        if (said := service.reader.detail(created.row, user)) is not None:
            content["status_detail"] = said
        status, extra = _status(created, headers, content)
        pieces = stored.in_pieces(content)
        extra += [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % sum(map(len, pieces))),
        ]
        await send({"type": "http.response.start", "status": status, "headers": extra})
        if len(pieces) == 1:
            await send({"type": "http.response.body", "body": pieces[0]})
        else:
            await send_pieces(pieces, send)


def _headers(scope: Scope, given: dict[bytes, bytes]) -> CreateHeaders:
    """Raises Invalid. With a chosen id, an Idempotency-Key is ignored."""
    headers = requests.parse_headers(given, scope["headers"])
    chosen = scope.get("path_params", {}).get("prediction_id")
    if chosen is None:
        return headers
    return replace(headers, idempotency_key=ids.key_of(requests.chosen_id(chosen)))


def _status(
    created: Created, headers: CreateHeaders, content: dict[str, Any]
) -> tuple[int, Headers]:
    """HTTP status and headers. An unfinished prediction is reported as `starting` after a wait:
    Replicate's client takes every other status for the end."""
    extra = [(b"location", content["urls"]["get"].encode())]
    if headers.wait_seconds:
        extra.append((b"preference-applied", b"wait=%d" % headers.wait_seconds))
    if not created.is_unfinished:
        return 201, extra
    content["status"] = "starting"
    return 202, extra


def _path_model(scope: Scope) -> str | None:
    parameters = scope.get("path_params")
    return (
        f"{parameters['owner']}/{parameters['name']}"
        if parameters and "owner" in parameters
        else None
    )


def _base_url(scope: Scope) -> str:
    host = b""
    for header, value in scope["headers"]:  # A generator costs twice as much.
        if header == b"host":
            host = value
            break
    name = host.decode("latin-1") if host else "{}:{}".format(*scope["server"])
    return f"{scope['scheme']}://{name}{scope.get('root_path', '')}"
