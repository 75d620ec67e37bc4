"""Decodes and checks body and headers of a request that creates a prediction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import orjson

from inference_contract import values
from inference_contract.field_errors import FieldError
from inference_contract.inferencemodel import NAME_PATTERN
from inference_contract.webhooks import WebhookEvent
from inference_gateway.errors import Invalid, TooLarge
from inference_gateway.http import duplicate_keys
from inference_gateway.http.body_limit import check_values

MAX_WAIT_SECONDS = 60
MAX_CANCEL_AFTER_SECONDS = 30 * 86_400
MAX_KEY_LENGTH = 255
_NAME = NAME_PATTERN.strip("^$")
_MODEL = re.compile(rf"(?P<id>{_NAME}/{_NAME})(?::(?P<version>[\w.+-]{{1,64}}))?")
_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d{1,9})\"?)?(?=$|[,;\s])", re.IGNORECASE)
_DURATION = re.compile(r"(?=\d)(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,8})s)?")
_FIELD = re.compile(r"at `\$\.?([^`]*)`|field `([^`]*)`")


_Body = TypeVar("_Body", bound="CreateBody")


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON body; the model may be given in any of three fields."""

    input: dict[str, Any]
    model_id: str | None = None
    model: str | None = None
    version: str | None = None
    webhook: str | None = None
    webhook_events_filter: list[WebhookEvent] | None = None
    stream: bool | None = None
    """Deprecated by Replicate, no effect: every prediction has a stream."""


class LargeBody(CreateBody, forbid_unknown_fields=True):
    """A large body: processed on a thread, as it takes milliseconds."""


@dataclass(frozen=True, slots=True)
class CreateHeaders:
    """The headers with an effect on the request."""

    wait_seconds: int = 0
    cancel_after: int | None = None
    idempotency_key: str | None = None
    """The key, or a chosen id: see `ids`."""


_NO_HEADERS = CreateHeaders()
_decoder = msgspec.json.Decoder(CreateBody)
_large_decoder = msgspec.json.Decoder(LargeBody)


def decode_large(content: bytes) -> LargeBody:
    """Takes long. Raises Invalid, TooLarge."""
    check_values(content)
    return _decode(content, _large_decoder)


def decode(content: bytes) -> CreateBody:
    """Raises Invalid, which names the field."""
    return _decode(content, _decoder)


def _decode(content: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    try:
        body = decoder.decode(content)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _FIELD.search(message)
        field = (found[1] or found[2] or "") if found else ""
        raise _invalid(field, message.partition(" - at ")[0]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The body is not JSON: {error}.") from error
    if not values.is_plain(content):
        _check(body)
    _check_keys(content, body)
    return body


def _check_keys(content: bytes, body: CreateBody) -> None:
    """Raises Invalid if a key is there twice."""
    given = (
        1
        + (body.model_id is not None)
        + (body.model is not None)
        + (body.version is not None)
        + (body.webhook is not None)
        + (body.webhook_events_filter is not None)
        + (body.stream is not None)
    )
    # In most bodies the only colons are those of the outermost keys.
    if content.count(b":") == given + len(body.input):
        return
    try:
        duplicate_keys.check(content, given + duplicate_keys.count(body.input))
    except duplicate_keys.DuplicateKey as error:
        raise _invalid(str(error), "is there twice") from error


def _check(body: CreateBody) -> None:
    fields = {"input": body.input, "webhook": body.webhook}
    for field, value in fields.items():
        try:
            values.check(value)
        except values.Unacceptable as error:
            raise _invalid(field, str(error)) from error


def named_model(body: CreateBody, path_model: str | None) -> tuple[str, str | None]:
    """The model's id and, if the caller gives one, its version.

    Args:
        path_model: the model in the URL, of `POST /v1/models/{owner}/{name}/predictions`.

    Raises:
        Invalid: if no model is named, or two different ones.
    """
    given = {"path": path_model, "model_id": body.model_id}
    given |= {"model": body.model, "version": body.version}
    model: str | None = None
    version: str | None = None
    for field, value in given.items():
        if value is None:
            continue
        found = _MODEL.fullmatch(value)
        if found is None:
            raise _invalid(field, f"{value[:100]!r} is not owner/name or owner/name:version")
        if model not in (None, found["id"]):
            raise _invalid(field, f"{value!r} is another model than {model!r}")
        model, version = found["id"], found["version"] or version
    if model is None:
        raise _invalid("model_id", "name a model: owner/name")
    return model, version


def parse_headers(headers: dict[bytes, bytes], given: list[tuple[bytes, bytes]]) -> CreateHeaders:
    """Parse the headers. Unknown preferences in `Prefer` are ignored (RFC 7240).

    Args:
        headers: the last of each name.
        given: all of them.

    Raises:
        Invalid
    """
    if len(headers) < len(given):
        _join_twice(given, headers)
    prefer = headers.get(b"prefer")
    cancel_after = headers.get(b"cancel-after")
    key = headers.get(b"idempotency-key")
    if prefer is cancel_after is key is None:
        return _NO_HEADERS
    return CreateHeaders(
        wait_seconds=wait_seconds(prefer.decode("latin-1")) if prefer else 0,
        cancel_after=None if cancel_after is None else duration(cancel_after.decode("latin-1")),
        idempotency_key=None if key is None else _key(key.decode("latin-1")),
    )


def _join_twice(given: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> None:
    """Join several `Prefer` headers to one list (RFC 9110, 5.2); others may occur once. Raises
    Invalid."""
    headers[b"prefer"] = b",".join(value for name, value in given if name == b"prefer")
    for field in ("Cancel-After", "Idempotency-Key"):
        if sum(name == field.lower().encode() for name, _ in given) > 1:
            raise _invalid(field, "is there twice")


def chosen_id(text: str) -> UUID:
    """Parse an id that the caller chose. Raises Invalid."""
    try:
        return UUID(text)
    except ValueError:
        raise _invalid("prediction_id", "choose a UUID") from None


def wait_seconds(prefer: str) -> int:
    """N of `wait=N`, at most 60 (which `wait` alone means too); 0 if it does not ask to wait."""
    found = _WAIT.search(prefer)
    if found is None:
        return 0
    return MAX_WAIT_SECONDS if found[1] is None else min(int(found[1]), MAX_WAIT_SECONDS)


def duration(text: str) -> int:
    """Seconds of `30s`, `5m`, `1h` or `1h30m`.

    Raises:
        Invalid: if it has another form, or is out of range.
    """
    found = _DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 1 <= total <= MAX_CANCEL_AFTER_SECONDS:
        raise _invalid("Cancel-After", "must be a time like 30s, 5m or 1h30m, at most 720h")
    return total


def encode_input(input: dict[str, Any], max_bytes: int) -> bytes:
    """The input as stored and sent.

    Raises:
        Invalid: if it holds an integer of more than 64 bits.
        TooLarge: if it has more than `max_bytes`.
    """
    try:
        content = orjson.dumps(input)
    except TypeError as error:
        raise _invalid("input", str(error)) from error
    if len(content) > max_bytes:
        raise TooLarge(
            f"The input has {len(content)} bytes; at most {max_bytes} "
            "(MAX_INPUT_BYTES) are allowed."
        )
    return content


def encode(
    body: CreateBody, input: dict[str, Any], model: str, headers: CreateHeaders, max_bytes: int
) -> tuple[bytes, str | None]:
    """The input as stored, and the hash of the request if it has a key.

    Args:
        input: the input of the body, checked against the model's schema.

    Raises:
        Invalid, TooLarge
    """
    content = encode_input(input, max_bytes)
    if headers.idempotency_key is None:
        return content, None
    return content, request_hash(body, model, headers.cancel_after)


def request_hash(body: CreateBody, model: str, cancel_after: int | None) -> str:
    """Tells whether a repeated Idempotency-Key came with the same request."""
    parts = [model, body.version, body.input, body.webhook, body.webhook_events_filter]
    try:
        content = orjson.dumps([*parts, cancel_after], option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise _invalid("input", str(error)) from error
    return hashlib.sha256(content).hexdigest()


def _key(key: str) -> str:
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise _invalid("Idempotency-Key", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
    return key


def _invalid(field: str, message: str) -> Invalid:
    errors: list[FieldError] = [{"field": field, "message": message}] if field else []
    return Invalid(f"{field}: {message}." if field else f"{message}.", errors=errors)
