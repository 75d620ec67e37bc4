"""What the Redis user of a model may do: its own model's keys, by the commands that a runner uses.

Syntax: https://valkey.io/topics/acl. A script does only what its caller may.
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
    """A Redis has one set of users for all its databases, each of which may be another server's."""
    return f"{_prefix(database)}{key}"


def key_of_user(name: str, database: str) -> str:
    """The reverse of `user_name`; empty for a user that is none of a model."""
    prefix = _prefix(database)
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def lock_user(key: str, database: str) -> tuple[Command, Command]:
    """The commands after which nobody is this user: whoever is now loses the connection."""
    name = user_name(key, database)
    return ("ACL", "SETUSER", name, "reset", "off"), ("CLIENT", "KILL", "USER", name)


def set_user(key: str, database: str, password: str) -> Command:
    """The command that makes the user or brings it up to this; done twice it changes nothing.

    Of each kind of key it has the commands that a runner uses for it. None takes Redis longer than
    its own arguments are long, with two exceptions: DEL of a large key is done beside (lazyfree),
    and into the hash that HGETALL reads nobody but the server writes.
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
    """Those of our users whose model is none of `in_use`, which are model keys."""
    prefix = _prefix(database)
    ours = (user for user in users if user.startswith(prefix))
    return sorted(user for user in ours if user.removeprefix(prefix) not in in_use)


def _prefix(database: str) -> str:
    return f"inference:{database}:"


def _rights(key: str) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Patterns of keys and the commands for them.

    No other model's key begins with `<key>_` or `<key>:`, as no name holds either character.
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
