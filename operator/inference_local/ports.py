"""TCP ports of this machine: whether one is free, and which process listens on it."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_LISTEN = "0A"


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
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listeners(table, port)}
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            if any(str(link.readlink()) in wanted for link in (folder / "fd").iterdir()):
                return f"{(folder / 'comm').read_text().strip()} ({folder.name})"
    return None


def _listeners(table: str, port: int) -> list[str]:
    """Inodes of the listening sockets of this port; fields as in proc(5), addresses in hex."""
    try:
        lines = (PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    ]
