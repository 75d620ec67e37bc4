"""A Redis user for every model, so that a hostile one reaches nothing but its own.

Redis may forget users when it restarts, so they are set anew with every connection. It saves them
now and then only, if it has a file for that, because it writes them all each time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import hiredis

from inference_contract import backoff, functions
from inference_operator.redis.acl import RIGHTS_OF_OPERATOR, lock_user, orphans, set_user, user_name
from inference_operator.redis.connection import (
    Command,
    RedisConnection,
    RedisUnavailable,
    Tell,
    database,
)

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
"""Seconds in which a model has no user; each time twice as long, until an hour went well."""
_SAVE: Command = ("ACL", "SAVE")
_NO_FILE = "not configured to use an ACL file"

log = logging.getLogger(__name__)


class UsersRefused(Exception):
    """Redis lets us make no users; the message says what to do."""


class Suspended(Exception):
    """The model's runners took more of Redis than they may, and have no user for a while."""


@dataclass
class _Suspension:
    why: str
    until: float
    """By the monotonic clock."""
    times: int
    """How often in a row: each within LONGEST_PAUSE of the one before."""
    version: object = None
    """Of the document, when first somebody asked: another one lifts it."""
    ends: str = ""
    """The same, for people."""
    is_told: bool = False
    """That it is over."""


class RedisUsers:
    """Thread-safe.

    Args:
        redis: as a user who may make others.
    """

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis
        self._database = database(redis.url)
        self._suspended: dict[str, _Suspension] = {}
        self._users: dict[str, Command] = {}
        """By model key: what Redis has been told of, and is told again."""
        redis.on_connect = self._tell_all

    def ensure(self, key: str, url: str, version: object = None) -> None:
        """The user of this URL is there, before anybody uses it. Asks Redis only if it is news.

        Args:
            version: of the model's document.

        Raises:
            Suspended: for a while, or until there is another version.
            UsersRefused: until somebody acts.
            RedisUnavailable: until it is back.
        """
        command = set_user(key, self._database, unquote(urlsplit(url).password or ""))
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
                # Who was this user until now is so no longer: the owner has moved, or an
                # administrator has changed the password.
                self._redis.tell([("CLIENT", "KILL", "USER", name)])
            self._users[key] = command

    def missing(self, there: Collection[str]) -> list[str]:
        """Models whose user is not among those that Redis has."""
        with self._redis.lock:
            return [k for k in self._users if user_name(k, self._database) not in there]

    def suspend(self, key: str, why: str) -> float:
        """No user for this model for a while; how many seconds.

        Raises:
            RedisUnavailable: until it is back.
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

    def parole(self) -> list[str]:
        """Models whose suspension has just ended."""
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
        """Tell Redis of all users again, whoever took them away, and let it save them.

        Raises:
            RedisUnavailable: until it is back.
        """
        with self._redis.lock:
            self._tell_all(self._redis.tell)

    def sweep(self, in_use: Callable[[], Collection[str]]) -> None:
        """Remove the users of models that are gone. Their connections end with them.

        Args:
            in_use: keys of all models and of all pods, as of now: a user that is ensured for a
                model which it does not name yet would be lost.

        Raises:
            UsersRefused: until somebody acts.
            RedisUnavailable: until it is back.
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
        """What Redis refuses is forgotten, so that the next `ensure` asks and says why."""
        now = time.monotonic()
        for key, suspension in self._suspended.items():
            if suspension.until > now:
                tell(lock_user(key, self._database))
        told = dict(self._users)
        loaded, *answers, saved = tell([functions.LOAD, *told.values(), _SAVE])
        if isinstance(loaded, hiredis.ReplyError):
            log.warning("Redis does not take the functions of runners: %s", loaded)
        refused = {
            key: answer
            for key, answer in zip(told, answers, strict=True)
            if isinstance(answer, hiredis.ReplyError)
        }
        for key in refused:
            del self._users[key]
        if refused:
            first = next(iter(refused.values()))
            log.warning("Redis takes the users of %d models no longer: %s", len(refused), first)
        _note_saved(saved)


def _has_another_password(before: object, command: Command) -> bool:
    """
    Args:
        before: the answer of ACL GETUSER: names and values by turns; None without such a user.
        command: that makes the user.
    """
    if not isinstance(before, list):
        return False
    found = dict(zip(before[::2], before[1::2], strict=True)).get(b"passwords") or []
    return any(f"#{digest.decode()}" not in command for digest in found)


def _refused(url: str, error: Exception) -> UsersRefused | RedisUnavailable:
    if not str(error).startswith(("NOPERM", "ERR")):  # Busy, loading, not logged in …
        return RedisUnavailable(str(error))
    us = unquote(urlsplit(url).username or "") or "default"
    return UsersRefused(
        f"Redis lets the operator make no user for this model's runners ({error}): "
        f"run ACL SETUSER {us} {RIGHTS_OF_OPERATOR} there, or give the runners of all models one "
        "URL by RUNNER_REDIS_URL (externalRedis.runnerKey)"
    )


def _note_saved(answer: object) -> None:
    """Without a file the next connection tells Redis again: no error."""
    if isinstance(answer, hiredis.ReplyError) and _NO_FILE not in str(answer):
        log.warning("Redis did not save its users: %s", answer)
