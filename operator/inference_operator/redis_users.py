"""A Redis user for every model, so that a hostile one reaches nothing but its own.

Redis may forget users when it restarts, so they are set anew with every connection. It saves them
now and then only, if it has a file for that, because it writes them all each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from urllib.parse import unquote, urlsplit

import hiredis

from inference_contract import functions
from inference_operator.redis_acl import RIGHTS_OF_OPERATOR, orphans, set_user
from inference_operator.redis_link import Command, RedisLink, RedisUnavailable, Tell, database

_SAVE: Command = ("ACL", "SAVE")
_NO_FILE = "not configured to use an ACL file"

log = logging.getLogger(__name__)


class UsersRefused(Exception):
    """Redis lets us make no users; the message says what to do."""


class RedisUsers:
    """Thread-safe.

    Args:
        link: as a user who may make others.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._database = database(link.url)
        self._users: dict[str, Command] = {}
        """By model key: what Redis has been told of, and is told again."""
        link.on_connect = self._tell_all

    def ensure(self, key: str, url: str) -> None:
        """The user of this URL is there, before anybody uses it. Asks Redis only if it is news.

        Raises:
            UsersRefused: until somebody acts.
            RedisUnavailable: until it is back.
        """
        command = set_user(key, self._database, unquote(urlsplit(url).password or ""))
        if self._users.get(key) == command:
            return
        with self._link.lock:
            self._users.pop(key, None)
            (answer,) = self._link.tell([command])
            if isinstance(answer, hiredis.ReplyError):
                raise _refused(self._link.url, answer)
            self._users[key] = command

    def restore(self) -> None:
        """Tell Redis of all users again, whoever took them away, and let it save them.

        Raises:
            RedisUnavailable: until it is back.
        """
        with self._link.lock:
            self._tell_all(self._link.tell)

    def sweep(self, in_use: Callable[[], Collection[str]]) -> None:
        """Remove the users of models that are gone. Their connections end with them.

        Args:
            in_use: keys of all models and of all pods, as of now: a user that is ensured for a
                model which it does not name yet would be lost.

        Raises:
            UsersRefused: until somebody acts.
            RedisUnavailable: until it is back.
        """
        with self._link.lock:
            keys = in_use()
            for key in self._users.keys() - set(keys):
                del self._users[key]
            (users,) = self._link.tell([("ACL", "USERS")])
            if isinstance(users, hiredis.ReplyError):
                raise _refused(self._link.url, users)
            names = (user.decode(errors="replace") for user in users)
            if gone := orphans(names, self._database, keys):
                answer, saved = self._link.tell([("ACL", "DELUSER", *gone), _SAVE])
                if isinstance(answer, hiredis.ReplyError):
                    raise _refused(self._link.url, answer)
                _note_saved(saved)
                log.info("removed from Redis: %s", ", ".join(gone))

    def _tell_all(self, tell: Tell) -> None:
        """What Redis refuses is forgotten, so that the next `ensure` asks and says why."""
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
