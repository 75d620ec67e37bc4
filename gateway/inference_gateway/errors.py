"""Errors of the API, as RFC 9457 problem details.

GatewayError
├── BadRequest 400      not valid HTTP, or an unreadable URL
├── Unauthorized 401
├── Forbidden 403
├── NotFound 404
├── SlowRequest 408
├── Conflict 409
├── TooLarge 413
├── LongUrl 414
├── Invalid 422          names the fields
├── TooManyRequests 429  with Retry-After
├── LargeHeaders 431
└── Unavailable 503      nothing was stored
    └── Unconfirmed      it may have been stored
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NotRequired, TypeVar

import orjson
from typing_extensions import TypedDict

from inference_contract import field_errors
from inference_contract.field_errors import FieldError

PROBLEM_JSON = "application/problem+json"
NOT_KNOWN = "whether this was done is not known: look before you repeat it"
_MAX_ERRORS = 20
"""Field errors that are listed; further ones are only counted."""
_MAX_TEXT = 1000
"""Characters of a request that a response quotes."""


class Problem(TypedDict):
    """The body of an error response (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]
    error_count: NotRequired[int]
    """The number of all errors, if not all are listed."""
    prediction_id: NotRequired[str]
    """The prediction that may have been stored."""


class GatewayError(Exception):
    """An error with an HTTP status; `detail` is one sentence that says what to do."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.prediction_id: str | None = None

    def problem(self) -> bytes:
        """The body of the response."""
        body: Problem = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": cut(self.detail),
        }
        if self.errors:
            body["errors"] = [
                {"field": cut(error["field"]), "message": cut(error["message"])}
                for error in self.errors[:_MAX_ERRORS]
            ]
        if len(self.errors) > _MAX_ERRORS:
            body["error_count"] = len(self.errors)
        if self.prediction_id is not None:
            body["prediction_id"] = self.prediction_id
        return orjson.dumps(body)


_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def raises(*errors: type[GatewayError]) -> Callable[[_Endpoint], _Endpoint]:
    """Declare the errors of an endpoint or dependency, for the OpenAPI document."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.raises = errors  # type: ignore[attr-defined]
        return endpoint

    return mark


def cut(text: str) -> str:
    """Shorten a quoted text; lone surrogates, which JSON cannot hold, become `?`."""
    text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    return text.encode(errors="replace").decode()


class BadRequest(GatewayError):
    status = 400
    title = "Bad request"


class Unauthorized(GatewayError):
    status = 401
    title = "Unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(GatewayError):
    status = 403
    title = "Forbidden"


class NotFound(GatewayError):
    status = 404
    title = "Not found"


class SlowRequest(GatewayError):
    status = 408
    title = "Request timeout"


class Conflict(GatewayError):
    status = 409
    title = "Conflict"


class TooLarge(GatewayError):
    status = 413
    title = "Content too large"


class LongUrl(GatewayError):
    status = 414
    title = "URI too long"


class Invalid(GatewayError):
    status = 422
    title = "Invalid input"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> Invalid:
        """That says the first in words."""
        return cls(field_errors.first(errors), errors=errors)


class TooManyRequests(GatewayError):
    status = 429
    title = "Too many requests"


class LargeHeaders(GatewayError):
    status = 431
    title = "Request header fields too large"


class Unavailable(GatewayError):
    status = 503
    title = "Unavailable"


class Unconfirmed(Unavailable):
    """The change may have been made: PostgreSQL, Kubernetes or this process stopped in the middle.

    Args:
        prediction_id: the prediction that was stored, if one was.
    """

    def __init__(self, detail: str, *, prediction_id: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": "2"})
        self.prediction_id = prediction_id
