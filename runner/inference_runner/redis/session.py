"""The worker's exchange with Redis: one write sends events and claims the next jobs."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis
import redis
from redis._parsers import _HiredisParser
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract import backoff, functions, primary, queues
from inference_runner.redis.claim import ClaimKeys, Command, parse
from inference_runner.redis.emitter import Emitter
from inference_runner.runs import Run

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1
"""Longest wait for work in one call; also the delay until a stop signal is noticed."""
SOCKET_TIMEOUT = 10
"""Silence after which a connection counts as dead."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


class _Parser(_HiredisParser):
    """Closes a connection to a replica: a new one may lead to the primary."""

    @classmethod
    def parse_error(cls, response: str) -> Exception:
        if primary.is_elsewhere(response):
            return redis.ConnectionError(response)
        known: Any = super()  # redis-py has no types here.
        error: Exception = known.parse_error(response)
        return error


def connect(url: str) -> redis.Redis:
    """A client without retries: a claim that is sent twice claims twice."""
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        parser_class=_Parser,
    )


def pipe(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """As `ask`, on a connection of the client's pool."""
    connection: Any = client.connection_pool.get_connection()
    try:
        return ask(connection, commands)
    finally:
        client.connection_pool.release(connection)


def ask(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """The raw replies of Redis, errors included. Raises only if the connection fails; the next call
    reconnects.

    redis-py's pipeline costs twice as much, for features that are not needed here.
    """
    try:
        packed = b"".join(map(hiredis.pack_command, commands))
        connection.send_packed_command([packed], check_health=False)
        return [_reply(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # The next call must not read replies of this one.
        raise


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _refused(reply: Any) -> redis.RedisError | None:
    """The error if a SEND was not executed, or not completely (memory, disk full, no rights)."""
    if isinstance(reply, redis.RedisError):
        return reply
    for part in map(str, reply):
        if "NOPERM" in part or "ACL failure" in part:
            return redis.exceptions.NoPermissionError(part)
        # Refused stream entries of a stale attempt are expected: that is the purpose of the id.
        if "equal or smaller" not in part:
            log.error("Redis refused an event", extra={"error": part})
    return None


def _first_error(replies: Sequence[Any]) -> redis.RedisError | None:
    return next((reply for reply in replies if isinstance(reply, redis.RedisError)), None)


class RedisSession:
    """Sends the emitter's events and claims jobs; retries while Redis does not answer.

    Args:
        stopping: whether the worker has been told to stop.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: ClaimKeys,
        emitter: Emitter,
        lease: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._client: Any = client  # redis-py's types cover asyncio too
        self.connection: Any = client.connection_pool.make_connection()
        """Permanent, for `exchange`: taking one from the pool costs as much as a command."""
        self._keys, self._emitter = keys, emitter
        self._lease, self._stopping = lease, stopping
        self._claimed: list[Run] = []
        self._busy = False
        self._shaken = False
        self.mine: dict[str, Run] = {}
        """Claimed runs by job id, until Redis has accepted their ends. Only the main thread
        adds."""
        self.progress = time.monotonic()

    def exchange(self, want: int = 0, *, active: int = 0, wait: bool = False) -> list[Run]:
        """Send all events, then claim up to `want` jobs; with `wait`, wait for jobs.

        Retries until Redis has accepted the events. Returns the claimed runs, perhaps none.
        """
        failures = 0
        while True:
            self.progress = time.monotonic()
            try:
                self._once(want, active, wait)
            except redis.RedisError as error:
                failures += 1
                if failures == 1:
                    log.warning("Redis does not answer as it should", extra={"error": str(error)})
                self._shaken = True
                if self._stopping():
                    if not self._emitter.pending:
                        break
                    want, wait = 0, False
                pause = backoff.pause(failures, FIRST_PAUSE, LONGEST_PAUSE)
                self._pause(pause * random.uniform(0.5, 1))
            else:
                if failures:
                    log.info("Redis is back")
                break
        claimed, self._claimed = self._claimed, []
        return claimed

    def send_through(self, client: redis.Redis, patience: float = 0.0) -> None:
        """Send all events with another client, while the model's code runs on the main thread.

        Args:
            patience: seconds to wait for another thread that is sending.

        Raises:
            redis.RedisError: Redis did not accept the events; they are kept.
        """
        if not self._emitter.sending.acquire(timeout=patience):
            return
        try:
            commands = self._emitter.commands()
            if commands and (refused := self._accept(pipe(client, commands))):
                raise refused
        finally:
            self._emitter.sending.release()

    def _once(self, want: int, active: int, wait: bool) -> None:
        if self._shaken:
            self._recover()
        with self._emitter.sending:
            self._say_and_claim(want, active, wait)

    def _say_and_claim(self, want: int, active: int, wait: bool) -> None:
        commands = self._emitter.commands()
        said = len(commands)
        if wait:
            if self._busy:
                commands.append(("HSET", self._keys.worker, "state", "idle"))
                self._busy = False
            queue = self._keys.queue
            # Moves the first job to its own place: blocks until a job exists and removes nothing.
            commands.append(("BLMOVE", queue, queue, "LEFT", "LEFT", BLOCK_SECONDS))
        claim_at = len(commands)
        if want:
            commands.append(self._keys.claim(want, active, self._lease))
        if want or self.mine:
            commands.append(("HGETALL", self._keys.cancel))
        if commands:
            replies = ask(self.connection, commands)
            # Both replies are processed before an error is raised: a claim must not be lost.
            refused = self._accept(replies[:said]) if said else None
            if want and not isinstance(replies[claim_at], Exception):
                self._take(replies[claim_at])
            if want or self.mine:
                self.cancel(replies[-1])
            if refused or (refused := _first_error(replies[said:])):
                self._provide(refused)
                raise refused

    def _accept(self, replies: Sequence[Any]) -> Exception | None:
        """Process the replies of SEND. If one is refused, all events are sent again."""
        for reply in replies:
            if refused := _refused(reply):
                return refused
        for run in self._emitter.accepted():
            self.mine.pop(run.job_id, None)
        return None

    def _provide(self, error: Exception) -> None:
        """Load the functions after an error, as far as allowed: the operator normally loads
        them."""
        if "Function not found" in str(error):
            with suppress(redis.ResponseError):
                self._client.execute_command(*functions.LOAD)

    def _take(self, flat: list[Any]) -> None:
        """`flat` is job id, execution id, data, job id, …"""
        for job_id, execution, data in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            run = parse(job_id.decode(), execution.decode(), data)
            if run is None:
                pipe(self._client, [("DEL", queues.job_key(job_id.decode()))])
                both = b"%b:%b" % (job_id, execution)
                pipe(self._client, [("ZREM", self._keys.in_flight, both)])
                continue
            self.mine[run.job_id] = run
            self._claimed.append(run)
            self._busy = True

    def _recover(self) -> None:
        """Adopt jobs that were claimed by a call whose reply was lost."""
        claimed = self._client.execute_command("HGET", self._keys.worker, "claimed") or b""
        for member in claimed.split():
            job_id, _, execution = member.rpartition(b":")
            is_ours = execution.startswith(self._keys.process.encode())
            if not is_ours or job_id.decode() in self.mine:
                continue
            if self._client.zscore(self._keys.in_flight, member) is not None:
                [data] = self._client.hmget(queues.job_key(job_id.decode()), "data")
                self._take([job_id, execution, data])
        self._shaken = False

    def cancel(self, flags: Any) -> None:
        """Mark the runs with a cancel request. `flags`: prediction → attempt, as in Redis."""
        if isinstance(flags, dict):
            for prediction, attempt in flags.items():
                job_id = f"{self._keys.model}_{prediction.decode()}_{attempt.decode()}"
                if run := self.mine.get(job_id):
                    run.canceled = True

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        if self._stopping():
            time.sleep(0.1)
