"""A Redis user for every model, so that hostile model code reaches only its own model's keys.

Redis may lose users when it restarts, so all are set again on every new connection. They are saved
only now and then, and only if Redis has an ACL file, because each save writes all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import hiredis

from inference_contract import backoff, functions
from inference_operator.redis import address
from inference_operator.redis.acl import RIGHTS_OF_OPERATOR, lock_user, orphans, set_user, user_name
from inference_operator.redis.connection import (
    Command,
    RedisConnection,
    RedisUnavailable,
    Tell,
)

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
"""Seconds without a user. Each suspension is twice as long as the last; an hour without one resets
it."""
_SAVE: Command = ("ACL", "SAVE")
_NO_FILE = "not configured to use an ACL file"

log = logging.getLogger(__name__)


class UsersRefused(Exception):
    """The operator may not create users in Redis; the message says what to do."""


class Suspended(Exception):
    """The model's runners exceeded their budget of Redis and have no user for a while."""


@dataclass
class _Suspension:
    why: str
    until: float
    """By the monotonic clock."""
    times: int
    """Suspensions in a row: each within LONGEST_PAUSE of the one before."""
    version: object = None
    """Version of the document at the first `ensure` after it; another version ends it."""
    ends: str = ""
    """`until` as text, for messages."""
    is_told: bool = False
    """Whether its end was reported."""


class RedisUsers:
    """Thread-safe.

    Args:
        redis: a connection of a user that may create users.
    """

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis
        self._database = address.parse(redis.url).database
        self._suspended: dict[str, _Suspension] = {}
        self._users: dict[str, Command] = {}
        """By model key: the command that sets the user, sent again on every new connection."""
        redis.on_connect = self._tell_all

    def ensure(self, key: str, url: str, version: object = None) -> None:
        """Create the user of this URL. Sends commands only if the user is new or has changed.

        Args:
            version: version of the model's document.

        Raises:
            Suspended: until the suspension ends, or the document has another version.
            UsersRefused: the operator lacks the right to create users.
            RedisUnavailable: Redis does not answer.
        """
        command = set_user(key, self._database, address.parse(url).password)
        if self._users.get(key) == command:
            return
        with self._redis.lock:
            self._refuse_suspended(key, version)
            self._users.pop(key, None)
            name = user_name(key, self._database)
            before, answer = self._redis.tell([("ACL", "GETUSER", name), command])
            if isinstance(answer, hiredis.ReplyError):
                raise _refused(self._redis.url, answer)
            if _has_another_password(before, command):
                # The password has changed (another namespace of the owner, or an administrator):
                # connections with the old one are closed.
                self._redis.tell([("CLIENT", "KILL", "USER", name)])
            self._users[key] = command

    def missing(self, there: Collection[str]) -> list[str]:
        """Model keys whose user Redis does not have.

        Args:
            there: names of the users that Redis has.
        """
        with self._redis.lock:
            return [k for k in self._users if user_name(k, self._database) not in there]

    def suspend(self, key: str, why: str) -> float:
        """Disable the model's user for a while. Returns the seconds.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        with self._redis.lock:
            before, now = self._suspended.get(key), time.monotonic()
            is_again = before is not None and now - before.until < LONGEST_PAUSE
            times = before.times + 1 if before and is_again else 1
            seconds = backoff.pause(times, FIRST_PAUSE, LONGEST_PAUSE)
            self._suspended[key] = _Suspension(why, now + seconds, times)
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            self._suspended[key].ends = f"{ends:%Y-%m-%d %H:%M:%S} UTC"
            self._users.pop(key, None)
            self._redis.tell(lock_user(key, self._database))
        return seconds

    def end_suspensions(self) -> list[str]:
        """Model keys whose suspension has ended since the last call."""
        with self._redis.lock:
            now = time.monotonic()
            over = {k: s for k, s in self._suspended.items() if s.until <= now and not s.is_told}
            for suspension in over.values():
                suspension.is_told = True
            return list(over)

    def _refuse_suspended(self, key: str, version: object) -> None:
        suspension = self._suspended.get(key)
        if suspension is None or suspension.until <= time.monotonic():
            return
        suspension.version = suspension.version or version
        if version != suspension.version:
            suspension.until = time.monotonic()
            return
        raise Suspended(
            f"the model's runners had {suspension.why}: they lost their Redis user and what they "
            f"had written, until {suspension.ends}; correct the model's code: a change of its "
            "document lets it try at once"
        )

    def restore(self) -> None:
        """Set all users again, in case Redis lost them, and let Redis save them.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        with self._redis.lock:
            self._tell_all(self._redis.tell)

    def sweep(self, in_use: Callable[[], Collection[str]]) -> None:
        """Remove the users of deleted models, which closes their connections.

        Args:
            in_use: returns the current keys of all models and all pods. A user that was created for
                a model missing there would be removed.

        Raises:
            UsersRefused: the operator lacks the right to remove users.
            RedisUnavailable: Redis does not answer.
        """
        with self._redis.lock:
            keys = in_use()
            for key in self._users.keys() - set(keys):
                del self._users[key]
            (users,) = self._redis.tell([("ACL", "USERS")])
            if isinstance(users, hiredis.ReplyError):
                raise _refused(self._redis.url, users)
            names = (user.decode(errors="replace") for user in users)
            if gone := orphans(names, self._database, keys):
                answer, saved = self._redis.tell([("ACL", "DELUSER", *gone), _SAVE])
                if isinstance(answer, hiredis.ReplyError):
                    raise _refused(self._redis.url, answer)
                _note_saved(saved)
                log.info("removed from Redis: %s", ", ".join(gone))

    def _tell_all(self, tell: Tell) -> None:
        """Set all users. A refused one is dropped, so that the next `ensure` reports the error."""
        now = time.monotonic()
        for key, suspension in self._suspended.items():
            if suspension.until > now:
                tell(lock_user(key, self._database))
        told = dict(self._users)
        loaded, *answers, saved = tell([functions.LOAD, *told.values(), _SAVE])
        if isinstance(loaded, hiredis.ReplyError):
            log.warning("Redis refuses the runners' functions: %s", loaded)
        refused = {
            key: answer
            for key, answer in zip(told, answers, strict=True)
            if isinstance(answer, hiredis.ReplyError)
        }
        for key in refused:
            del self._users[key]
        if refused:
            first = next(iter(refused.values()))
            log.warning("Redis refuses the users of %d models: %s", len(refused), first)
        _note_saved(saved)


def _has_another_password(before: object, command: Command) -> bool:
    """
    Args:
        before: the reply of ACL GETUSER: names and values alternate; None if the user is missing.
        command: the command that sets the user.
    """
    if not isinstance(before, list):
        return False
    found = dict(zip(before[::2], before[1::2], strict=True)).get(b"passwords") or []
    return any(f"#{digest.decode()}" not in command for digest in found)


def _refused(url: str, error: Exception) -> UsersRefused | RedisUnavailable:
    if not str(error).startswith(("NOPERM", "ERR")):  # Busy, loading, not logged in …
        return RedisUnavailable(str(error))
    us = address.parse(url).username or "default"
    return UsersRefused(
        f"Redis lets the operator make no user for this model's runners ({error}): "
        f"run ACL SETUSER {us} {RIGHTS_OF_OPERATOR} there, or give the runners of all models one "
        "URL by RUNNER_REDIS_URL (externalRedis.runnerKey)"
    )


def _note_saved(answer: object) -> None:
    """Log a failed save. A Redis without an ACL file is no error: users are set again later."""
    if isinstance(answer, hiredis.ReplyError) and _NO_FILE not in str(answer):
        log.warning("Redis did not save its users: %s", answer)
