"""How Redis says that a connection leads to what is not, or no longer, its primary.

After a failover the old primary may live on as a replica and keep its clients: it refuses every
write of theirs for ever, and what they read grows old. Such a connection is dropped, for a new one
to the same address may lead to the new primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODES = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED")
"""Of a replica: of a write; of whatever is asked; of a cluster's part; of whoever was waiting for
something when it became one."""
ASK_ROLE = ("HELLO",)
"""Every user may, whatever else it may not, and every server answers it."""


def is_elsewhere(error: str) -> bool:
    """Whether the primary is elsewhere, by an error that Redis answers with."""
    return error.startswith(CODES)


def is_replica(hello: Any) -> bool:
    """By the answer to ASK_ROLE: a map in RESP3, names and values in turn in RESP2."""
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2], strict=False))
    return isinstance(hello, Mapping) and hello.get(b"role") == b"replica"
