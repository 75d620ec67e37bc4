"""The command's standard streams, which may be closed or ASCII only, and its name."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any


def prepare() -> None:
    """Make the standard streams usable, and new files private (umask)."""
    os.umask(0o077)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # Closed: else the next file that is opened takes its place.
            os.open(os.devnull, os.O_RDWR)
    # Python has none where a descriptor was closed.
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """Drop buffered output whose reader has gone, so that Python's exit raises no error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


def is_closed(error: OSError) -> bool:
    """Whether the error says that the reader of our output has gone (`inference logs | head`)."""
    return error.errno == errno.EPIPE


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON, with escapes where standard output cannot encode a character."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not is_utf8, indent=indent)


def has_style() -> bool:
    """Whether to print bold text: standard output is a terminal, NO_COLOR (https://no-color.org)
    is unset."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def program() -> str:
    """This command as the user can type it: its name if it is on the PATH, else its path."""
    own = Path(sys.argv[0])
    found = shutil.which("inference")
    if not own.exists() or (found and Path(found).samefile(own)):
        return "inference"
    return shlex.quote(sys.argv[0] if os.sep in sys.argv[0] else str(own.resolve()))


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block; a second Ctrl-C takes effect at once."""
    came = False

    def hold(_number: int, _frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
