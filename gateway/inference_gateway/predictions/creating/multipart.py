"""`POST /v1/predictions/multipart`: a prediction with its files in one request.

The part `prediction` is the JSON of `POST /v1/predictions`. Every file becomes the input with the
name of its part, as a data: URL.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from inference_contract import values
from inference_gateway.errors import BadRequest, Invalid
from inference_gateway.http.body_limit import SMALL_BYTES
from inference_gateway.predictions.creating import requests
from inference_gateway.predictions.creating.endpoint import CreatePrediction
from inference_gateway.predictions.creating.requests import CreateBody

NAME = "multipart"
"""The last part of the path."""
PART = "prediction"
_MAX_PARTS = 64
_SLICE_BYTES = 3 * 2**17
"""Slice of a file: a multiple of three bytes, for base64."""
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(;\s*[\w-]+=[\w.+-]+)*", re.ASCII)
"""Media types allowed in a data: URL."""


class MultipartPrediction:
    """
    Args:
        max_part_bytes: limit of a part that is not a file; the body limit applies to files.
    """

    raises = CreatePrediction.raises

    def __init__(self, create: CreatePrediction, max_part_bytes: int) -> None:
        self._create = create
        self._max_part_bytes = max_part_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises GatewayError."""
        request = Request(scope, receive)
        authorization = request.headers.get("authorization")
        # First, so that files are received from authenticated callers only.
        services = scope["app"].state.services
        user = await services.authenticate(authorization)
        headers = requests.parse_headers(dict(scope["headers"]), scope["headers"])
        form = await self._form(request)
        try:
            parts = await _parts(form)
        finally:
            await form.close()
        if sum(len(part.content) for part in parts) <= SMALL_BYTES:
            body = _read(parts, requests.decode)
        else:
            bodies = services.predictions.rows.bodies
            body = await bodies.run(user.user_id, _read, parts, requests.decode_large)
        # Again, as receiving may have taken long.
        user = await services.authenticate(authorization)
        await self._create.answer(scope, send, user, body, headers)

    async def _form(self, request: Request) -> FormData:
        """Names and texts are decoded as Latin-1, to detect invalid UTF-8 later: the parser falls
        back to Latin-1 silently."""
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Invalid("send multipart/form-data: curl does so with -F")
        if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
            raise Invalid("send the form in UTF-8")
        boundary = options[b"boundary"].decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        parser = MultiPartParser(
            Headers({"content-type": f'{kind.decode()}; charset=latin-1; boundary="{boundary}"'}),
            request.stream(),
            max_files=_MAX_PARTS,
            max_fields=_MAX_PARTS,
            max_part_size=self._max_part_bytes,
        )
        try:
            return await parser.parse()
        except MultiPartException as error:
            raise BadRequest(error.message) from error


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a form, as received."""

    name: str
    content: bytes
    headers: Headers | None
    """None for a part that is not a file."""


async def _parts(form: FormData) -> list[_Part]:
    """Raises Invalid, which names the part."""
    found = []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            found.append(_Part(_text(name), await part.read(), part.headers))
        else:
            found.append(_Part(_text(name), part.encode("latin-1"), None))
    return found


def _read(parts: list[_Part], decode: Callable[[bytes], CreateBody]) -> CreateBody:
    """The request in a form. Raises Invalid, which names the part."""
    given = [part.content for part in parts if part.name == PART]
    if len(given) != 1:
        raise _invalid(PART, "must be there, once: the JSON of POST /v1/predictions")
    try:
        body = decode(given[0])
    except Invalid as error:
        errors = error.errors or [{"field": PART, "message": error.detail}]
        raise Invalid(f"{PART}: {error.detail}", errors=errors) from error
    for part in parts:
        if part.name != PART:
            if part.name in body.input:
                message = f"is there twice, as a file or in the input of the part {PART}"
                raise _invalid(part.name, message)
            body.input[part.name] = _data_url(part)
    return body


def _data_url(part: _Part) -> str:
    """Raises Invalid."""
    if part.headers is None:
        raise _invalid(part.name, f"is no file: put it into the input of the part {PART}")
    media_type = part.headers.get("content-type") or "application/octet-stream"
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise _invalid(part.name, "has a Content-Type that no data: URL can hold")
    encoding = part.headers.get("content-transfer-encoding", "binary").lower()
    if encoding not in ("binary", "8bit", "7bit"):
        raise _invalid(part.name, f"has the Content-Transfer-Encoding {encoding}: send the bytes")
    content = memoryview(part.content)
    # In slices: each holds the GIL, which the event loop needs, for part of a millisecond.
    encoded = [
        base64.b64encode(content[start : start + _SLICE_BYTES]).decode("ascii")
        for start in range(0, len(content), _SLICE_BYTES)
    ]
    return "".join([f"data:{media_type};base64,", *encoded])


def _text(latin: str) -> str:
    """Raises Invalid."""
    content = latin.encode("latin-1")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or not values.is_text(text):
        name = values.text(content.decode(errors="replace"))
        raise _invalid(name, "is no name: it must be UTF-8 without U+0000")
    return text


def _invalid(part: str, message: str) -> Invalid:
    return Invalid(f"{part} {message}", errors=[{"field": part, "message": message}])
