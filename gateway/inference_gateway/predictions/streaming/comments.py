"""Comments in a stream, which clients ignore: why the prediction still waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from inference_gateway.predictions.streaming.sse import HEARTBEAT


async def with_detail(
    events: AsyncIterator[bytes],
    said: dict[str, str] | None,
    why: Callable[[], Awaitable[dict[str, str] | None]],
) -> AsyncGenerator[bytes, None]:
    """Add comments to a stream that say why the prediction waits; they serve as heartbeats.

    Args:
        said: the current status detail.
        why: reads it again.
    """
    if said and said["stage"] == "blocked":
        yield _comment(said)
    async for chunk in events:
        said = await why() if chunk == HEARTBEAT else None
        yield _comment(said) if said else chunk


def _comment(said: dict[str, str]) -> bytes:
    line = " ".join(f"{said['stage']}: {said['reason']}: {said['message']}".split())
    return f": {line}\n\n".encode()
