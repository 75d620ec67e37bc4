"""The operator's connection to Redis: commands out, answers in.

Some plain commands need no client library: importing redis-py would cost this process 22 MiB, half
of all it has.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from inference_contract import primary

TIMEOUT = 1.0
"""Seconds for connecting and for every answer; Redis answers within a millisecond."""
Command = tuple[str | bytes, ...]
MAX_BYTES = 16_000_000
"""Of all answers at once: what a model's keys hold is up to its runners, and nobody trusts them."""

_KEEP: Command = ("CLIENT", "NO-EVICT", "ON")
"""Redis ends the greediest clients when all together hold too much; not us."""

Answers = list[Any]
Tell = Callable[[Sequence[Command]], Answers]


class RedisUnavailable(Exception):
    """Redis did not answer, or not with what it was asked for."""


class RedisConnection:
    """Connects when it must; a connection that failed is not used again. Nor is any that was there
    when one of them was told that Redis' primary is elsewhere: users can be made on a replica too.

    Thread-safe: one conversation at a time. Whoever holds `lock` has the connection for itself.

    Args:
        url: redis://[user:password@]host:port/database, rediss://…, or unix:///path?db=0.
    """

    _departures = 0
    """How often a link of this process was told that the primary is elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.RLock()
        self.on_connect: Callable[[Tell], object] = lambda _: None
        """Comes first on every new connection: Redis may have been restarted."""
        self._socket: socket.socket | None = None
        self._seen = 0

    def ask(self, commands: Sequence[Command]) -> Answers:
        """An answer to each, in one round trip.

        Raises:
            RedisUnavailable: or one of them is refused.
        """
        answers = self.tell(commands) if commands else []
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                raise RedisUnavailable(str(answer))
        return answers

    def tell(self, commands: Sequence[Command]) -> Answers:
        """The same, but what Redis refuses is answered by a `hiredis.ReplyError`.

        After a broken connection they are sent once more: they must bear being done twice.

        Raises:
            RedisUnavailable: with or without effect.
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
            # Who may not be kept is a client like others.
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
    """A socket, and the commands that come first on it.

    Raises:
        OSError: if nobody listens there.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(unquote(parts.path))
        except OSError:
            connection.close()
            raise
    else:
        host = parts.hostname or "localhost"
        connection = socket.create_connection((host, parts.port or 6379), TIMEOUT)
        if parts.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    greeting: list[Command] = []
    if parts.password:
        credentials = [unquote(part) for part in (parts.username, parts.password) if part]
        greeting.append(("AUTH", *credentials))
    if (number := database(url)) != "0":
        greeting.append(("SELECT", number))
    return connection, greeting


def database(url: str) -> str:
    """The number of a URL's database, as redis-py reads it."""
    parts = urlsplit(url)
    in_query = parse_qs(parts.query).get("db", ["0"])[0]
    return in_query if parts.scheme == "unix" else parts.path.strip("/") or in_query


def _exchange(connection: socket.socket, commands: Sequence[Command]) -> Answers:
    """Send the commands at once and read an answer to each."""
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
