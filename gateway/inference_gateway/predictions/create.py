"""`POST /v1/predictions` as a plain ASGI endpoint: the hot path.

A route of FastAPI with a pydantic body costs three times as much as all that is done here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from inference_gateway.limits import SMALL_BYTES, check_values, read_body
from inference_gateway.predictions import requests
from inference_gateway.predictions.requests import CreateBody, CreateHeaders
from inference_gateway.predictions.schemas import to_wire
from inference_gateway.predictions.service import Created
from inference_gateway.services import Services

Headers = list[tuple[bytes, bytes]]


class CreatePrediction:
    """Also at `/v1/models/{owner}/{name}/predictions`."""

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    async def _decode(self, content: bytes) -> CreateBody:
        """Raises Invalid, TooLarge."""
        if len(content) <= SMALL_BYTES:
            return requests.decode(content)
        # One in a turn of the event loop: between two of them others are served.
        async with self._large:
            check_values(content)
            body = requests.decode(content)
            await asyncio.sleep(0)
            return body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises GatewayError, which the app's handler turns into an answer."""
        services: Services = scope["app"].state.services
        service = services.predictions
        given = dict(scope["headers"])
        authorization = given.get(b"authorization")
        user = await services.authenticate(
            None if authorization is None else authorization.decode("latin-1")
        )
        headers = requests.parse_headers(given)
        body = await self._decode(await read_body(receive))
        base_url = (service.settings.public_url or _base_url(scope, given)).rstrip("/")
        created = await service.create(user, body, headers, _path_model(scope), base_url)
        content = to_wire(service.with_detail(created.row, user), base_url)
        status, extra = _status(created, headers, content)
        encoded = orjson.dumps(content)
        extra += [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(encoded)),
        ]
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": encoded})


def _status(
    created: Created, headers: CreateHeaders, content: dict[str, Any]
) -> tuple[int, Headers]:
    """HTTP status and headers; what a wait leaves unfinished is `starting`, since Replicate's
    client takes every other status for the end."""
    extra = [(b"location", content["urls"]["get"].encode())]
    if headers.wait_seconds:
        extra.append((b"preference-applied", b"wait=%d" % headers.wait_seconds))
    if not created.is_unfinished:
        return 201, extra
    content["status"] = "starting"
    return 202, extra


def _path_model(scope: Scope) -> str | None:
    parameters = scope.get("path_params")
    return f"{parameters['owner']}/{parameters['name']}" if parameters else None


def _base_url(scope: Scope, headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host")
    name = host.decode("latin-1") if host else "{}:{}".format(*scope["server"])
    return f"{scope['scheme']}://{name}{scope.get('root_path', '')}"
