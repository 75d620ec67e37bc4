"""Limits for the body of one request, and for the bodies of all requests together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from starlette.types import Message, Receive, Scope

from inference_contract import values
from inference_gateway.errors import GatewayError, TooLarge, TooManyRequests, Unavailable
from inference_gateway.quotas import metrics

SMALL_BYTES = 65_536
"""Smaller bodies and responses are not counted: the number of connections bounds them."""
MAX_FORM_BYTES = 65_536
"""Bodies that hold neither an input nor a model: accounts, tokens, forms."""
MAX_DOCUMENT_BYTES = 1_000_000
"""A model's document."""
_RETRY_AFTER = {"Retry-After": "1"}

WhoOf = Callable[[Scope], str]
"""Returns the account of a request, or its address if the account is not known yet."""


class InFlight:
    """Counts the bytes of all large bodies and responses in flight.

    A caller may use at most as many bytes as it leaves free, so that there is always room for the
    next caller. For one event loop, except `room` and `refusal`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._of: Counter[str] = Counter()

    def room(self, who: str) -> int:
        """Bytes that this caller may take now."""
        return max(0, (self._most - self._taken - self._of[who]) // 2)

    def take(self, who: str, size: int, *, refuse: bool = True) -> None:
        """Count bytes; call `give` afterwards. Raises TooManyRequests, Unavailable."""
        if refuse and size > self.room(who):
            raise self.refusal(who, size)
        self._taken += size
        self._of[who] += size

    def give(self, who: str, size: int) -> None:
        self._taken -= size
        self._of[who] -= size
        if not self._of[who]:
            del self._of[who]

    def refusal(self, who: str, size: int) -> GatewayError:
        """The error for a caller without room for so many bytes."""
        mine = self._of[who]
        if size > (self._most - self._taken + mine) // 2:
            return Unavailable(
                f"too much of {self._most} bytes of bodies and answers (MAX_BYTES_IN_FLIGHT) is "
                "under way, no more are taken just now: try again",
                headers=_RETRY_AFTER,
            )
        metrics.REFUSED.labels("bytes_in_flight").inc()
        return TooManyRequests(
            f"Request was throttled. {mine} bytes of your bodies and answers are under way; nobody "
            f"may have more than they leave free of {self._most} (MAX_BYTES_IN_FLIGHT): send and "
            "read fewer large ones at once.",
            headers=_RETRY_AFTER,
        )


def largest_body(path: str, max_body_bytes: int) -> int:
    if path.startswith("/v1/models") and not path.endswith("/predictions"):
        return min(MAX_DOCUMENT_BYTES, max_body_bytes)
    if path.startswith(("/v1/auth", "/v1/account", "/v1/webhooks")):
        return min(MAX_FORM_BYTES, max_body_bytes)
    return max_body_bytes


def too_large(max_bytes: int) -> TooLarge:
    setting = "" if max_bytes in (MAX_FORM_BYTES, MAX_DOCUMENT_BYTES) else " (MAX_BODY_BYTES)"
    return TooLarge(f"the body is larger than {max_bytes} bytes{setting}, the most taken here")


MAX_JSON_VALUES = 200_000
"""Values in one body. Each becomes an object: `{},{},…` takes twenty times its length in memory."""
MAX_DOCUMENT_VALUES = 20_000
"""Values in a model's document: all its errors are collected before they are cut."""


def check_values(body: bytes, most: int = MAX_JSON_VALUES) -> None:
    """Raises TooLarge if this JSON has more than about so many values."""
    if len(body) <= most or _separators(body) <= most:
        return
    # Commas and brackets inside strings do not count.
    if body.count(b'"') <= 4 * most and sum(map(_separators, values.outside_texts(body))) <= most:
        return
    raise TooLarge(f"the body holds more than {most} values, the most that is taken here")


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


class CountedBody:
    """The `receive` of a request with a large body or without Content-Length.

    Received bytes count as in flight until `close`.
    """

    def __init__(
        self, scope: Scope, receive: Receive, max_bytes: int, in_flight: InFlight, who_of: WhoOf
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._max_bytes = max_bytes
        self._in_flight = in_flight
        self._who_of = who_of
        self._who = ""
        self._taken = 0

    async def __call__(self) -> Message:
        """Raises TooLarge, TooManyRequests, Unavailable as soon as a limit is exceeded."""
        message = await self._receive()
        if size := len(message.get("body", b"")):
            if self._taken + size > self._max_bytes:
                raise too_large(self._max_bytes)
            # Most endpoints read the body after authentication.
            self._who = self._who or self._who_of(self._scope)
            self._in_flight.take(self._who, size)
            self._taken += size
        return message

    def close(self) -> None:
        self._in_flight.give(self._who, self._taken)
        self._taken = 0


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request; the middleware limits its size.

    Raises:
        ConnectionResetError: if the client disconnects meanwhile.
    """
    message = await receive()
    if not message.get("more_body", False) and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        return body
    parts: list[bytes] = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise ConnectionResetError("the client went away while it sent its request")
