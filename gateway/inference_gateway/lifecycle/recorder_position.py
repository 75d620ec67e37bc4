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
    """A key that is no stream holds nothing to wait for."""
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
            # Beyond the last of all ids there is nothing that could be asked for.
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
