"""What each model's runners use of Redis: connections, keys, and the memory of the keys.

Runners write some keys of a model, the server the others (jobs, queue, cancels). Only the keys that
runners write are counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from inference_contract import queues
from inference_operator.redis.acl import key_of_user
from inference_operator.redis.connection import Command, Tell

_NAME = "[a-z0-9-]+_[a-z0-9-]+"
_WRITTEN = re.compile(
    rf"(?:rq:(?:worker|execution|executions):({_NAME})_.*"
    rf"|rq:(?:wip|workers):({_NAME})"
    rf"|({_NAME}):(?:events|stream:.*))",
    re.DOTALL,
)
_PAGE = 500
"""Keys in one call: a few hundred microseconds of Redis' time."""


@dataclass
class ModelConnections:
    """The connections of one model's runners."""

    ids: list[str] = field(default_factory=list)
    sent: int = 0
    """Bytes since each was opened; 0 if the server does not report it (Valkey 8 and newer do)."""


def writer(name: bytes) -> str:
    """The model key whose runners write this Redis key; empty if runners do not write it."""
    found = _WRITTEN.fullmatch(name.decode(errors="replace"))
    return next(filter(None, found.groups()), "") if found else ""


def connections(clients: bytes, database: str) -> tuple[dict[str, ModelConnections], list[str]]:
    """Connections by model key, and the ids of those not authenticated for ten seconds.

    Args:
        clients: the answer of CLIENT LIST.
    """
    found: dict[str, ModelConnections] = defaultdict(ModelConnections)
    nobody: list[str] = []
    for line in clients.decode(errors="replace").splitlines():
        fields = dict(pair.partition("=")[::2] for pair in line.split(" "))
        if key := key_of_user(fields.get("user", ""), database):
            found[key].ids.append(fields["id"])
            found[key].sent += int(fields.get("tot-net-in", 0))
        elif fields.get("cmd") in ("NULL", "auth", "hello") and int(fields.get("idle", 0)) >= 10:
            nobody.append(fields["id"])
    return dict(found), nobody


def fixed_keys(key: str) -> list[str]:
    """Keys with fixed names that a model's runners write."""
    return [queues.events_key(key), queues.in_flight_key(key), f"rq:workers:{key}"]


def pages(tell: Tell) -> Iterable[list[bytes]]:
    """The names of all keys, in pages; a name may appear more than once (SCAN)."""
    cursor = "0"
    while True:
        [(position, names)] = tell([("SCAN", cursor, "COUNT", str(_PAGE))])
        yield names
        cursor = position.decode()
        if cursor == "0":
            return


def sizes(tell: Tell, names: Sequence[bytes | str]) -> list[int]:
    """Bytes of each key; 0 for a key that no longer exists."""
    commands: list[Command] = [("MEMORY", "USAGE", name) for name in names]
    return [size if isinstance(size, int) else 0 for size in tell(commands)] if commands else []


def audit(tell: Tell, budget: int) -> dict[str, int]:
    """Bytes by model key; ends early when one model exceeds the budget."""
    totals: dict[str, int] = defaultdict(int)
    for names in pages(tell):
        written = [(key, name) for name in names if (key := writer(name))]
        for (key, _), size in zip(written, sizes(tell, [n for _, n in written]), strict=True):
            totals[key] += size
        if any(total > budget for total in totals.values()):
            break
    return dict(totals)


def purge(tell: Tell, keys: set[str]) -> None:
    """Remove the keys that these models' runners wrote; Redis frees them in the background."""
    for names in pages(tell):
        if doomed := [name for name in names if writer(name) in keys]:
            tell([("UNLINK", *doomed)])
