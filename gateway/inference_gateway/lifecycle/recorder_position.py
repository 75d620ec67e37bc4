"""The recorder's position in a model's event stream.

The reason why something is missing in Redis may still be an unread event. So code that acts on a
missing key notes the stream's end *after* it read the key, and waits until the recorder has written
all events up to there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from inference_contract import queues
from inference_gateway.redis.replies import each

START = "0-0"


def last_events(client: redis.Redis, keys: Iterable[str]) -> dict[str, str]:
    """Model key → id of the newest entry of its event stream."""
    keys = list(keys)
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xrevrange(queues.events_key(key), count=1)
        replies = each(pipe)
    ends = (_newest(reply) for reply in replies)
    return dict(zip(keys, ends, strict=True))


def _newest(reply: Any) -> str:
    """The newest id; the smallest id for a key that is not a stream."""
    if not reply or isinstance(reply, Exception):
        return START
    newest: bytes = reply[0][0]
    return newest.decode()


def is_recorded(client: redis.Redis, key: str, upto: str) -> bool:
    """Whether the recorder has acknowledged every entry that the stream holds up to that id."""
    if upto == START:
        return True
    stream = queues.events_key(key)
    seen = _last_delivered(client, stream)
    with client.pipeline(transaction=False) as pipe:
        if seen is None:
            pipe.xrange(stream, "-", upto, count=1)
        else:
            # After the greatest possible id nothing can be requested.
            if number(seen) < number(upto):
                pipe.xrange(stream, f"({seen}", upto, count=1)
            pipe.xpending_range(stream, queues.RECORDER_GROUP, "-", upto, 1)
        return not any(reply for reply in each(pipe) if not isinstance(reply, Exception))


def number(entry_id: str | bytes) -> tuple[int, int]:
    ms, _, sequence = (entry_id.decode() if isinstance(entry_id, bytes) else entry_id).partition(
        "-"
    )
    return int(ms), int(sequence)


def _last_delivered(client: redis.Redis, stream: str) -> str | None:
    """None without a group: the stream was never read, or is missing."""
    try:
        groups: list[dict[str, Any]] = client.xinfo_groups(stream)
    except redis.ResponseError:  # no such key
        return None
    for group in groups:
        if group["name"] == queues.RECORDER_GROUP.encode():
            seen: bytes = group["last-delivered-id"]
            return seen.decode()
    return None
