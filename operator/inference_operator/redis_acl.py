"""What the Redis user of a model may do: its own model's keys, by the commands that a runner uses.

Syntax: https://valkey.io/topics/acl. A script does only what its caller may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from inference_contract import queues
from inference_operator.redis_link import Command

_COMMANDS = (
    *("blmove", "lpop", "lpush"),  # the queue
    *("del", "expire", "hdel", "hgetall", "hmget", "hset", "hsetnx"),  # jobs, the worker
    *("zadd", "zrange", "zrem", "zscore", "sadd", "srem"),  # leases, RQ's registries
    *("xadd",),  # events
    *("multi", "exec", "eval", "evalsha", "script|load", "time"),
    "client|setinfo",  # the client library's own
)
_SHARED = (("rq:workers", ("sadd", "srem")), ("rq:queues", ("sadd",)))
"""Lists of names for RQ's tools; nothing of ours reads them."""
RIGHTS_OF_OPERATOR = "+acl|setuser +acl|deluser +acl|users +acl|save"


def user_name(key: str, database: str) -> str:
    """A Redis has one set of users for all its databases, each of which may be another server's."""
    return f"{_prefix(database)}{key}"


def set_user(key: str, database: str, password: str) -> Command:
    """The command that makes the user or brings it up to this; done twice it changes nothing."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    select = [] if database == "0" else [f"+select|{database}"]
    return (
        *("ACL", "SETUSER", user_name(key, database), "reset", "on", f"#{digest}"),
        *("resetchannels", "-@all"),
        *(f"~{pattern}" for pattern in _patterns(key)),
        *(f"+{command}" for command in _COMMANDS),
        *select,
        *(
            f"(~{name} {' '.join(f'+{command}' for command in commands)})"
            for name, commands in _SHARED
        ),
    )


def orphans(users: Iterable[str], database: str, in_use: Collection[str]) -> list[str]:
    """Those of our users whose model is none of `in_use`, which are model keys."""
    prefix = _prefix(database)
    ours = (user for user in users if user.startswith(prefix))
    return sorted(user for user in ours if user.removeprefix(prefix) not in in_use)


def _prefix(database: str) -> str:
    return f"inference:{database}:"


def _patterns(key: str) -> tuple[str, ...]:
    """No other model's key begins with `<key>_` or `<key>:`, as no name holds either character."""
    return (
        queues.queue_key(key),
        queues.in_flight_key(key),
        queues.job_key(f"{key}_*"),
        f"rq:execution:{key}_*",
        f"rq:executions:{key}_*",
        f"rq:worker:{key}_*",
        f"rq:workers:{key}",
        f"{key}:*",
    )
