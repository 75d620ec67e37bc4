"""How far the recorder has come with a model's event stream.

What Redis no longer holds of a prediction may be on its way through the event stream. Whoever draws
a conclusion from something that is missing notes the stream's end *after* it missed it, and waits
until everything up to there is in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from inference_contract import queues

START = "0-0"


def last_events(client: redis.Redis, keys: Iterable[str]) -> dict[str, str]:
    """Model key → id of the newest entry of its event stream."""
    keys = list(keys)
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xrevrange(queues.events_key(key), count=1)
        replies = pipe.execute()
    ends = (reply[0][0].decode() if reply else START for reply in replies)
    return dict(zip(keys, ends, strict=True))


def is_recorded(client: redis.Redis, key: str, upto: str) -> bool:
    """Whether the recorder has acknowledged every entry that the stream holds up to that id."""
    if upto == START:
        return True
    stream = queues.events_key(key)
    seen = _last_delivered(client, stream)
    with client.pipeline(transaction=False) as pipe:
        pipe.xrange(stream, f"({seen}" if seen else "-", upto, count=1)
        if seen:
            pipe.xpending_range(stream, queues.RECORDER_GROUP, "-", upto, 1)
        return not any(pipe.execute())


def _last_delivered(client: redis.Redis, stream: str) -> str | None:
    """None without a group: nobody has read the stream yet, or it is gone."""
    try:
        groups: list[dict[str, Any]] = client.xinfo_groups(stream)
    except redis.ResponseError:  # no such key
        return None
    for group in groups:
        if group["name"] == queues.RECORDER_GROUP.encode():
            seen: bytes = group["last-delivered-id"]
            return seen.decode()
    return None
