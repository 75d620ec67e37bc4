"""Connections of webhooks.

A name is resolved once, all its addresses must be allowed, and the connection goes to a checked
address, so that DNS rebinding has no effect.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from inference_gateway.webhooks.guard import PORTS, is_loopback, is_public


class AddressRefused(httpcore.ConnectError):
    """The address is not one that webhooks may reach."""


class GuardedBackend(httpcore.NetworkBackend):
    """Connects for one request: to allowed addresses only, and until a deadline only.

    Args:
        deadline: limit of the whole request, by `time.monotonic()`.
    """

    def __init__(self, deadline: float, allow_loopback: bool) -> None:
        self._deadline = deadline
        self._allow_loopback = allow_loopback
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the name's addresses in turn; raises AddressRefused, or httpcore's errors."""
        failure: httpcore.ConnectError | None = None
        for address in self._resolve(host, port):
            left = _left(self._deadline, timeout)
            try:
                stream = self._backend.connect_tcp(
                    address, port, left, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        local = self._allow_loopback and all(map(is_loopback, addresses))
        if not local and not all(map(is_public, addresses)):
            raise AddressRefused(f"{host} is not a public address")
        if not local and port not in PORTS:
            raise AddressRefused(f"port {port} is not open for webhooks")
        return [str(address) for address in addresses]


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the receiver took too long")
    return left if timeout is None else min(left, timeout)


class _DeadlineStream(httpcore.NetworkStream):
    """Limits the sum of all waits; httpcore's timeouts limit each of them."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
