"""TCP ports of this machine: whether one is free, and which process listens on it."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress


class PortError(Exception):
    """The address cannot be listened on. The message is one line that says what to do."""


def free_port(host: str) -> int:
    with _bound(host, 0) as found:
        return int(found.getsockname()[1])


def require_free(host: str, port: int) -> None:
    """Raises PortError, which names the listening process if this user may see it."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise PortError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        taker = holder(port)
        raise PortError(
            f"port {port} is taken{f' by {taker}' if taker else ''}: "
            f"choose another with --port or PORT=… make up"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1)  # Two sockets with SO_REUSEADDR may share a port until one listens.
    except OSError:
        bound.close()
        raise
    return bound


def holder(port: int) -> str | None:
    """`name (pid)` of the process that listens on the port; None if it is another user's."""
    import psutil

    for found in psutil.net_connections("tcp"):
        is_listening = found.status == psutil.CONN_LISTEN and found.pid
        if is_listening and found.laddr and found.laddr.port == port:
            with suppress(psutil.Error):
                return f"{psutil.Process(found.pid).name()} ({found.pid})"
    return None
