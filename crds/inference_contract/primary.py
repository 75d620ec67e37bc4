"""Detects that a connection to Redis does not lead to the primary.

After a failover the old primary may continue as a replica and keep its connections: it refuses all
writes, and reads become stale. Such a connection is closed, as a new one to the same address may
lead to the new primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODES = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED")
"""Error codes: of a replica for a write; of a replica without its primary; of a failed cluster; for
a blocked client when its server becomes a replica."""
ASK_ROLE = ("HELLO",)
"""Allowed for every user, and supported by every server."""


def is_elsewhere(error: str) -> bool:
    """Whether an error reply of Redis means that the primary is elsewhere."""
    return error.startswith(CODES)


def is_replica(hello: Any) -> bool:
    """By the reply to ASK_ROLE: a map in RESP3, alternating names and values in RESP2."""
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2], strict=False))
    return isinstance(hello, Mapping) and hello.get(b"role") == b"replica"
