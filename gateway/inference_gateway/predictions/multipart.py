"""`POST /v1/predictions/multipart`: a prediction with its files in one request.

The part `prediction` is the JSON of `POST /v1/predictions`; every file is an input by the name of
its part, and reaches the model as a data: URL.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_contract import values
from inference_gateway.errors import Invalid
from inference_gateway.limits import check_values

PART = "prediction"
_MAX_PARTS = 64


class MultipartPrediction:
    """Rewrites the request and hands it on.

    Args:
        create: takes the JSON request.
        max_part_bytes: of a part that is no file; files count against the largest body.
    """

    def __init__(self, create: ASGIApp, max_part_bytes: int) -> None:
        self._create = create
        self._max_part_bytes = max_part_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises GatewayError, or HTTPException if the body is no form."""
        request = Request(scope, receive)
        # First of all: nobody unknown shall have us take in files.
        services = scope["app"].state.services
        await services.authenticate(request.headers.get("authorization"))
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Invalid("send multipart/form-data: curl does so with -F")
        async with request.form(
            max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=self._max_part_bytes
        ) as form:
            body = await as_json(form)

        async def receive_json() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._create(scope, receive_json, send)


async def as_json(form: FormData) -> bytes:
    """The JSON request that a form stands for. Raises Invalid, which names the part."""
    given = form.get(PART)
    content = await given.read() if isinstance(given, UploadFile) else (given or "").encode()
    check_values(content)
    try:
        body: Any = orjson.loads(content)
        values.check(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(PART, "must hold the JSON of POST /v1/predictions") from error
    except values.Unacceptable as error:
        raise _invalid(PART, str(error)) from error
    inputs = body.setdefault("input", {}) if isinstance(body, dict) else None
    if not isinstance(inputs, dict):
        raise _invalid(PART, "must be an object, and so must be its input")
    for name, part in form.multi_items():
        if name == PART:
            continue
        if not values.is_text(name):
            raise _invalid(values.text(name), "is no name: it must be UTF-8 without U+0000")
        if not isinstance(part, UploadFile):
            raise _invalid(name, f"is no file: put it into the input of the part {PART}")
        if name in inputs:
            raise _invalid(name, f"is in the input of the part {PART} too")
        encoded = base64.b64encode(await part.read()).decode()
        inputs[name] = f"data:{part.content_type or 'application/octet-stream'};base64,{encoded}"
    return orjson.dumps(body)


def _invalid(part: str, message: str) -> Invalid:
    return Invalid(f"{part} {message}", errors=[{"field": part, "message": message}])
