"""The rights of a model's Redis user: its model's keys, by the commands that a runner uses.

Syntax: https://valkey.io/topics/acl. A script has the rights of its caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from inference_contract import functions, queues
from inference_operator.redis.connection import Command

RIGHTS_OF_OPERATOR = (
    "+acl|setuser +acl|getuser +acl|deluser +acl|users +acl|save "
    "+function|load +function|list +client|list +client|kill +info +scan +memory|usage +unlink"
)


def user_name(key: str, database: str) -> str:
    """The user's name. Users are common to all databases of a Redis, which several servers may
    share, so the name holds the database."""
    return f"{_prefix(database)}{key}"


def key_of_user(name: str, database: str) -> str:
    """The reverse of `user_name`; empty for a user that belongs to no model."""
    prefix = _prefix(database)
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def lock_user(key: str, database: str) -> tuple[Command, Command]:
    """The commands that disable this user and close its connections."""
    name = user_name(key, database)
    return ("ACL", "SETUSER", name, "reset", "off"), ("CLIENT", "KILL", "USER", name)


def set_user(key: str, database: str, password: str) -> Command:
    """The command that creates or updates the user; it is idempotent.

    For each kind of key the user has the commands that a runner uses. The cost of each command is
    bounded by the size of its arguments, with two exceptions: DEL frees a large key in the
    background (lazyfree), and only the server writes the hash that HGETALL reads.
    """
    digest = hashlib.sha256(password.encode()).hexdigest()
    select = [] if database == "0" else [f"+select|{database}"]
    return (
        *("ACL", "SETUSER", user_name(key, database), "reset", "on", f"#{digest}"),
        *("resetchannels", "-@all", "+time", "+client|setinfo", *select),
        *(f"+fcall|{name}" for name in functions.FUNCTIONS),
        *(
            f"({' '.join([*(f'~{p}' for p in patterns), *(f'+{c}' for c in commands)])})"
            for patterns, commands in _rights(key)
        ),
    )


def orphans(users: Iterable[str], database: str, in_use: Collection[str]) -> list[str]:
    """Users of this server whose model key is not in `in_use`."""
    prefix = _prefix(database)
    ours = (user for user in users if user.startswith(prefix))
    return sorted(user for user in ours if user.removeprefix(prefix) not in in_use)


def _prefix(database: str) -> str:
    return f"inference:{database}:"


def _rights(key: str) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Patterns of keys and the commands for them.

    No other model's key begins with `<key>_` or `<key>:`: names hold neither character.
    """
    jobs = queues.job_key(f"{key}_*")
    executions = (f"rq:execution:{key}_*", f"rq:executions:{key}_*")
    workers, worker = f"rq:workers:{key}", f"rq:worker:{key}_*"
    return (
        ((queues.queue_key(key),), ("blmove", "lindex", "lpop")),
        ((queues.in_flight_key(key),), ("zadd", "zrem", "zscore")),
        ((jobs,), ("hmget", "hdel")),
        ((jobs, *executions, worker), ("del",)),
        ((queues.events_key(key),), ("xadd",)),
        ((queues.stream_key(key, "*"),), ("xadd", "expire")),
        ((queues.cancel_key(key),), ("hgetall", "hdel")),
        ((*executions, worker), ("hset", "expire")),
        ((worker,), ("hget", "hdel", "hsetnx", "sadd", "srem")),
        ((executions[1],), ("zadd",)),
        ((workers,), ("sadd", "srem")),
    )
