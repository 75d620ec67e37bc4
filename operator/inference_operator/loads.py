"""The load of all models: one round trip to Redis a tick.

A few read-only commands need no client library: importing redis-py would cost this process 22 MiB,
half of all it has.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from inference_contract import queues

TIMEOUT = 1.0
"""Seconds for connecting and for every answer; Redis answers within a millisecond."""
MAX_BYTES = 16_000_000
"""Of all answers at once: what a model's keys hold is up to its runners, and nobody trusts them."""

log = logging.getLogger(__name__)
Command = tuple[str, ...]


class RedisUnavailable(Exception):
    """Redis did not answer, or not with what was asked for."""


class Load(NamedTuple):
    queued: int
    in_flight: int


class Loads:
    """Not thread-safe. Connects when it must; a connection that failed is not used again.

    Args:
        url: redis://[user:password@]host:port/database, rediss://…, or unix:///path?db=0.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: socket.socket | None = None

    def read(self, model_ids: Iterable[str]) -> dict[str, Load]:
        """Waiting and running predictions of each model.

        Raises:
            RedisUnavailable: nothing is known of any model.
        """
        ids = list(model_ids)
        commands: list[Command] = []
        for key in map(queues.model_key, ids):
            commands += [("LLEN", queues.queue_key(key)), ("ZCARD", queues.in_flight_key(key))]
        numbers = self.ask(commands)
        return {model_id: Load(*numbers[2 * i : 2 * i + 2]) for i, model_id in enumerate(ids)}

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """An answer to each, in one round trip.

        Raises:
            RedisUnavailable: or one of them cannot be answered.
        """
        if not commands:
            return []
        was_connected = self._socket is not None
        try:
            if self._socket is None:
                self._socket, greeting = _connect(self._url)
                _exchange(self._socket, greeting)
            return _exchange(self._socket, commands)
        except (OSError, hiredis.HiredisError) as error:
            self.close()
            if not was_connected:
                raise RedisUnavailable(str(error)) from error
            return self.ask(commands)  # The connection was old: Redis may have restarted since.


def _connect(url: str) -> tuple[socket.socket, list[Command]]:
    """A socket, and the commands that come first on it.

    Raises:
        OSError: if nobody listens there.
    """
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
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
        database = parts.path.strip("/") or database
        if parts.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    greeting: list[Command] = []
    if parts.password:
        credentials = [unquote(part) for part in (parts.username, parts.password) if part]
        greeting.append(("AUTH", *credentials))
    if database != "0":
        greeting.append(("SELECT", database))
    return connection, greeting


def _exchange(connection: socket.socket, commands: Sequence[Command]) -> list[Any]:
    """Send the commands at once and read an answer to each."""
    pack = hiredis.pack_command
    connection.sendall(b"".join(pack(command) for command in commands))  # type: ignore[arg-type]  # hiredis' stub allows tuples of one item only
    reader = hiredis.Reader()
    answers: list[Any] = []
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
        elif isinstance(answer, Exception):
            raise hiredis.ReplyError(str(answer))
        else:
            answers.append(answer)
    return answers
