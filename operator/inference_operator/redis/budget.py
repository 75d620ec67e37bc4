"""Limits what every model's runners use of Redis, so that no model fills it for all others.

Checks twice a second. A model whose runners exceed their connections or memory loses its user, its
connections, and all that its runners have written. Its attempts are lost as after a loss of Redis'
data: they run again, no prediction is lost. The user is restored after a pause.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import hiredis

from inference_contract import functions
from inference_operator.redis import address, usage
from inference_operator.redis.connection import RedisConnection, RedisUnavailable
from inference_operator.redis.users import RedisUsers

log = logging.getLogger(__name__)


class RedisBudget:
    """A thread.

    Args:
        redis: a connection of its own, as a check may take long.
        budget: bytes that the runners of one model may have in Redis.
        allowed: model key → how many connections its runners may have.
        suspended: called with the key of a model when its runners lose their user, and when they
            may have it again.
    """

    def __init__(
        self,
        redis: RedisConnection,
        users: RedisUsers,
        *,
        budget: int,
        allowed: Callable[[str], int],
        suspended: Callable[[str], object],
        seconds: float = 0.5,
    ) -> None:
        self._redis, self._users = redis, users
        self._budget, self._allowed, self._suspended = budget, allowed, suspended
        self._seconds = seconds
        self._database = address.parse(redis.url).database
        self._audited = 0
        """Bytes that Redis used at the last full audit."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-watch", daemon=True)
        self._problem = ""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._redis.close()

    def check(self) -> None:
        """Raises RedisUnavailable."""
        memory, clients, library, users = self._redis.tell(
            [
                ("INFO", "memory"),
                ("CLIENT", "LIST", "TYPE", "normal"),
                ("FUNCTION", "LIST", "LIBRARYNAME", functions.LIBRARY),
                ("ACL", "USERS"),
            ]
        )
        for answer in (memory, clients, library, users):
            if isinstance(answer, hiredis.ReplyError):
                raise RedisUnavailable(str(answer))
        if not library:
            self._redis.tell([functions.LOAD])
        if missing := self._users.missing({user.decode(errors="replace") for user in users}):
            log.warning("Redis has lost users, and gets them again: %s", ", ".join(missing))
            self._users.restore()
        connected, nobody = usage.connections(clients, self._database)
        if nobody:
            self._redis.tell([("CLIENT", "KILL", "ID", number) for number in nobody])
        over_budget = {
            key: f"{len(found.ids)} connections, and may have {self._allowed(key)}"
            for key, found in connected.items()
            if len(found.ids) > self._allowed(key)
        }
        over_budget |= self._too_large(list(connected), _used(memory))
        if over_budget:
            self._suspend(over_budget)
        for key in self._users.end_suspensions():
            self._suspended(key)

    def _too_large(self, keys: list[str], used: int) -> dict[str, str]:
        """Models over their memory budget. Fixed keys are measured at each check, all keys only
        when Redis has grown."""
        names = [name for key in keys for name in usage.fixed_keys(key)]
        found = usage.sizes(self._redis.tell, names)
        totals = {key: sum(found[3 * n : 3 * n + 3]) for n, key in enumerate(keys)}
        is_grown = used - self._audited > self._budget // 4
        self._audited = min(self._audited, used)
        if is_grown and not any(total > self._budget for total in totals.values()):
            totals = usage.audit(self._redis.tell, self._budget)
            self._audited = used
        return {
            key: f"{_mib(total)} in Redis, and may have {_mib(self._budget)}"
            for key, total in totals.items()
            if total > self._budget
        }

    def _suspend(self, over_budget: dict[str, str]) -> None:
        for key, why in over_budget.items():
            seconds = self._users.suspend(key, why)
            log.error("the runners of %s have %s: no user for %.0f s", key, why, seconds)
        usage.purge(self._redis.tell, set(over_budget))
        for key in over_budget:
            self._suspended(key)

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            try:
                self.check()
                self._problem = ""
            except RedisUnavailable as error:
                if str(error) != self._problem:
                    log.warning("cannot check what models use of Redis: %s", error)
                self._problem = str(error)
            except Exception:
                log.exception("a check of Redis failed; the next one starts afresh")


def _used(memory: bytes) -> int:
    for line in memory.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"used_memory":
            return int(value)
    return 0


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
