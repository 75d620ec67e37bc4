"""Comments of a stream, which clients ignore: they say what the prediction waits for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from inference_gateway.predictions.streaming.sse import HEARTBEAT


async def with_detail(
    events: AsyncIterator[bytes],
    said: dict[str, str] | None,
    why: Callable[[], Awaitable[dict[str, str] | None]],
) -> AsyncGenerator[bytes, None]:
    """A stream whose heartbeats, comments to all clients, say what it waits for.

    Args:
        said: what it waits for now.
        why: asks again.
    """
    if said and said["stage"] == "blocked":
        yield _comment(said)
    async for chunk in events:
        said = await why() if chunk == HEARTBEAT else None
        yield _comment(said) if said else chunk


def _comment(said: dict[str, str]) -> bytes:
    line = " ".join(f"{said['stage']}: {said['reason']}: {said['message']}".split())
    return f": {line}\n\n".encode()
