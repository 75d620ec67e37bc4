"""Server-sent events as a client reads them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent


def events(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Only events with a name, as all of ours: httpx-sse makes nameless events of comments."""
    return (event for event in EventSource(response).iter_sse() if event.event != "message")


def pairs(response: httpx.Response) -> list[tuple[str, str]]:
    """Name and data of each event, to the end."""
    return [(event.event, event.data) for event in events(response)]
