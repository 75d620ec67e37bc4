"""How much a request may carry."""

from __future__ import annotations

from starlette.types import Message, Receive

from inference_gateway.errors import TooLarge


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes, the most that is taken here")


def limited(receive: Receive, max_bytes: int) -> Receive:
    """Counts a body that comes without a Content-Length.

    Raises:
        TooLarge: from `receive`, as soon as it is too much.
    """
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > max_bytes:
            raise too_large(max_bytes)
        return message

    return counted


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request; `Edge` has seen to its size.

    Raises:
        ConnectionResetError: if the client goes away meanwhile.
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
