"""The operator's connection to Redis: sends commands and reads replies.

A few plain commands need no client library: redis-py would add 22 MiB to this process, half of its
memory.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from inference_contract import primary
from inference_operator.redis import address

TIMEOUT = 1.0
"""Seconds for connecting and for every answer; Redis answers within a millisecond."""
Command = tuple[str | bytes, ...]
MAX_BYTES = 16_000_000
"""Limit for the replies of one call: runners, which are not trusted, write their model's keys."""

_KEEP: Command = ("CLIENT", "NO-EVICT", "ON")
"""Exempts the operator when Redis disconnects clients with large buffers (maxmemory-clients)."""

Answers = list[Any]
Tell = Callable[[Sequence[Command]], Answers]


class RedisUnavailable(Exception):
    """Redis did not answer, or its reply was not as expected."""


class RedisConnection:
    """Connects when needed; a connection that failed is not used again. Nor is one that was open
    when any connection of this process learned that the primary is elsewhere: a replica accepts
    ACL SETUSER too.

    Thread-safe: one call at a time. A caller that holds `lock` has the connection for itself.

    Args:
        url: redis://[user:password@]host:port/database, rediss://…, or unix:///path?db=0.
    """

    _departures = 0
    """How often a connection of this process learned that the primary is elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.RLock()
        self.on_connect: Callable[[Tell], object] = lambda _: None
        """Called first on every new connection: Redis may have been restarted."""
        self._socket: socket.socket | None = None
        self._seen = 0

    def ask(self, commands: Sequence[Command]) -> Answers:
        """The reply to each command, in one round trip.

        Raises:
            RedisUnavailable: also if Redis refuses one of them.
        """
        answers = self.tell(commands) if commands else []
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                raise RedisUnavailable(str(answer))
        return answers

    def tell(self, commands: Sequence[Command]) -> Answers:
        """As `ask`, but the reply to a refused command is a `hiredis.ReplyError`.

        After a broken connection the commands are sent once more: they must be idempotent.

        Raises:
            RedisUnavailable: the commands may have been executed or not.
        """
        with self.lock:
            if self._seen != RedisConnection._departures:
                self.close()
            was_connected = self._socket is not None
            try:
                return self._tell(commands)
            except (OSError, hiredis.HiredisError) as error:
                self.close()
                if not was_connected:
                    raise RedisUnavailable(str(error)) from error
            return self.tell(commands)

    def close(self) -> None:
        with self.lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _tell(self, commands: Sequence[Command]) -> Answers:
        if self._socket is None:
            self._seen = RedisConnection._departures
            self._socket, greeting = _connect(self.url)
            for answer in _exchange(self._socket, greeting):
                if isinstance(answer, hiredis.ReplyError):
                    raise answer
            # Without the right to CLIENT NO-EVICT, the connection may be evicted like others.
            _, hello = _exchange(self._socket, [_KEEP, primary.ASK_ROLE])
            if primary.is_replica(hello):
                raise ConnectionError("the address of Redis leads to a replica")
            connection = self._socket
            self.on_connect(lambda first: _exchange(connection, first))
        answers = _exchange(self._socket, commands)
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError) and primary.is_elsewhere(str(answer)):
                RedisConnection._departures += 1
                raise ConnectionError(str(answer))
        return answers


def _connect(url: str) -> tuple[socket.socket, list[Command]]:
    """A socket, and the commands to send first.

    Raises:
        OSError: if the address cannot be connected to.
    """
    at = address.parse(url)
    if at.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(at.socket)
        except OSError:
            connection.close()
            raise
    else:
        connection = socket.create_connection((at.host, at.port), TIMEOUT)
        if at.is_encrypted:
            context = ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=at.host)
    greeting: list[Command] = []
    if at.password:
        credentials = (part for part in (at.username, at.password) if part)
        greeting.append(("AUTH", *credentials))
    if at.database != "0":
        greeting.append(("SELECT", at.database))
    return connection, greeting


def _exchange(connection: socket.socket, commands: Sequence[Command]) -> Answers:
    """Send the commands in one write and read a reply to each."""
    pack = hiredis.pack_command
    connection.sendall(b"".join(pack(command) for command in commands))  # type: ignore[arg-type]  # hiredis' stub allows tuples of one item only
    reader = hiredis.Reader()
    answers: Answers = []
    size = 0
    while len(answers) < len(commands):
        answer = reader.gets()
        if answer is False:
            data = connection.recv(65_536)
            if not data:
                raise ConnectionError("Redis closed the connection")
            size += len(data)
            if size > MAX_BYTES:
                raise ConnectionError(f"Redis answers with more than {MAX_BYTES:,} bytes")
            reader.feed(data)
        else:
            answers.append(answer)
    return answers
