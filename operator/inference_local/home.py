"""INFERENCE_HOME: all files of embedded mode, in one folder that only its owner can enter.

version              of this layout               secrets/   secret_key
instance.json        address, folder of sockets   run/       sockets, state files of processes
token                the administrator's token    logs/      a file per process
client.json          where `inference login` was  postgres/ valkey/ cache/ models/ status/
lock                 held by the supervisor
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference_contract import statefile

VERSION = 1
"""Of the layout. The database has revisions of its own."""
OURS = frozenset({".env", "cache", "models", "lock", "logs", "run", "secrets"})
"""Entries that a folder may have before it becomes a home; any other entry is an error."""
LOW_DISK_BYTES = 500_000_000
LONGEST_SOCKET = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 107
"""Bytes: sun_path of a Unix socket, without its final zero."""


class HomeError(Exception):
    """The home cannot be used. The message is one line that says what to do."""


class Home:
    def __init__(self, root: Path) -> None:
        try:
            self.root = root.expanduser().absolute()
        except (RuntimeError, OSError) as error:  # No such user, or a working folder that is gone.
            raise HomeError(f"where is {root}? {error}: name a folder with --home") from error
        self.token_file = self.root / "token"
        self.client_file = self.root / "client.json"
        self.lock_file = self.root / "lock"
        self.version_file = self.root / "version"
        self.instance_file = self.root / "instance.json"
        self.run = self.root / "run"
        self.logs = self.root / "logs"
        self.postgres = self.root / "postgres"
        self.valkey = self.root / "valkey"
        self.supervisor_file = self.run / "supervisor.json"

    def prepare(self) -> list[str]:
        """Create missing folders and files, and check the existing ones.

        Returns:
            Notes for the user: repairs, and problems to expect.

        Raises:
            HomeError: if the folder cannot be, or must not become, a home.
        """
        try:
            notes = self._own()
            self._check_version()
            for folder in (self.run, self.logs, self.postgres, self.valkey, self.root / "secrets"):
                folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (self.root / "models", self.root / "status", self.root / "cache"):
                folder.mkdir(exist_ok=True)
            if not self.version_file.exists():
                self.version_file.write_text(f"{VERSION}\n")
            self.secret_key()
        except OSError as error:
            raise HomeError(describe(error, self.root)) from error
        free = shutil.disk_usage(self.root).free
        if free < LOW_DISK_BYTES:
            notes.append(f"only {free // 1_000_000} MB are free on the disk of {self.root}")
        return notes

    def _own(self) -> list[str]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.root.stat()
        if status.st_uid != os.geteuid():
            owner = _user_name(status.st_uid)
            raise HomeError(
                f"{self.root} belongs to {owner}: choose another folder with --home or "
                f"INFERENCE_HOME, or run as {owner}"
            )
        if not self.version_file.exists():
            strange = sorted({path.name for path in self.root.iterdir()} - OURS)
            if strange:
                raise HomeError(
                    f"{self.root} is no home of ours and not empty (it has {strange[0]}): "
                    "choose another folder with --home or INFERENCE_HOME"
                )
        if status.st_mode & 0o077:
            self.root.chmod(0o700)
            return [f"{self.root} was open to others (mode {status.st_mode & 0o777:o}): now 700"]
        return []

    def _check_version(self) -> None:
        if not self.version_file.exists():
            return
        text = self.version_file.read_text().strip()
        if not text.isdecimal():
            raise HomeError(f"{self.version_file} is damaged: it should hold the number {VERSION}")
        if int(text) > VERSION:
            raise HomeError(
                f"{self.root} was made by a newer version of inference (layout {text}, this one "
                f"knows {VERSION}): update, or choose another folder with --home"
            )

    def secret_key(self) -> str:
        """The key that signs access tokens; created once, at random."""
        file = self.root / "secrets" / "secret_key"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(48))
        return file.read_text().strip()

    def token(self) -> str | None:
        """The administrator's API token, if it exists."""
        return self.token_file.read_text().strip() if self.token_file.exists() else None

    def instance(self) -> dict[str, Any]:
        """The options of the last start: `host`, `port`, `sockets`."""
        return statefile.read(self.instance_file) or {}

    def choose(self, **chosen: Any) -> None:
        statefile.write(self.instance_file, {**self.instance(), **chosen})

    def sockets(self) -> Path:
        """Folder of the Unix sockets: `run`, or one with a shorter path if `run` is too long."""
        if fits_sockets(self.run):
            return self.run
        known = self.instance().get("sockets")
        if known and _is_private(Path(known)):
            return Path(known)
        made = Path(tempfile.mkdtemp(prefix="inference-", dir="/tmp"))
        self.choose(sockets=str(made))
        return made

    @contextmanager
    def being_started(self) -> Iterator[None]:
        """A lock: a second `inference up` waits for the first, and then finds the server started.

        Raises:
            HomeError: if the folder cannot be made.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.root, os.O_RDONLY)
        except OSError as error:
            raise HomeError(describe(error, self.root)) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether this process now holds the home's lock; the kernel releases it at its exit."""
        with self.lock_file.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def is_in_use(self) -> bool:
        if not self.lock_file.exists():
            return False
        with self.locked() as free:
            return not free


def fits_sockets(folder: Path) -> bool:
    """Whether the path is short enough for a socket, and needs no escapes in a URL."""
    is_short = len(os.fsencode(folder / LONGEST_SOCKET)) <= MAX_SOCKET_PATH
    return is_short and re.fullmatch(r"[\w./-]+", str(folder), re.ASCII) is not None


def write_private(file: Path, text: str) -> None:
    """Replace a file atomically; other users can never read it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text + "\n")
    temporary.replace(file)


def describe(error: OSError, root: Path) -> str:
    """An operating system's error as a line that says what to do."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk of {root}: free some (500 MB at least) and try again"
    return f"{error.filename or root}: {error.strerror}"


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and status.st_uid == os.geteuid() and status.st_mode & 0o777 == 0o700


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
