"""The addresses that the REST API listens on."""

from __future__ import annotations

import contextlib
import socket

_BOTH = {
    "localhost": ("127.0.0.1", "::1"),
    "127.0.0.1": ("127.0.0.1", "::1"),
    "0.0.0.0": ("0.0.0.0", "::"),  # noqa: S104 - the caller's choice
}
"""Where the name means this machine or all its addresses: whoever resolves `localhost` may get
either family first."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets of the same port, the first of which is the host as it was written.

    IPv6 beside IPv4 is for where there is IPv6.

    Raises:
        OSError
    """
    first, *others = _BOTH.get(host, (host,))
    listeners = [_listen(first, port)]
    for other in others:
        with contextlib.suppress(OSError):
            listeners.append(_listen(other, listeners[0].getsockname()[1]))
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
