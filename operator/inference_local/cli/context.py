"""Shared by all commands: the home folder, a client of the server, and output."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inference_contract import statefile
from inference_local import stack
from inference_local.cli.errors import CliError
from inference_local.cli.terminal import program
from inference_local.home import Home

if TYPE_CHECKING:
    from inference_local.cli.api import Api

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="INFERENCE_HOME", help="Folder that keeps everything."),
]
DEFAULT_HOME = Path("~/.inference")
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


def local_url(home: Home) -> str:
    chosen = home.instance()
    return stack.base_url(chosen.get("host", DEFAULT_HOST), chosen.get("port", DEFAULT_PORT))


def api(home: Home) -> Api:
    """A client of the chosen server: INFERENCE_URL and INFERENCE_TOKEN, else the server of
    `inference login`, else this home's own server, as its administrator.

    Raises:
        CliError: if there is no token.
    """
    from inference_local.cli.api import Api

    saved = statefile.read(home.client_file) or {}
    url = os.environ.get("INFERENCE_URL") or saved.get("url") or local_url(home)
    token = os.environ.get("INFERENCE_TOKEN") or saved.get("token") or home.token()
    if not token:
        name = program()
        raise CliError(f"no server here yet: start it with `{name} up`, or `{name} login URL`")
    return Api(str(url), str(token))


def out(text: str = "") -> None:
    """Write a line to standard output and flush it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class ProgressLine:
    """Shows progress: one line that changes on a terminal, else a line for each change.

    Two texts that differ only in their numbers count as the same.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""
        self._since = time.monotonic()

    def show(self, text: str) -> None:
        kind = re.sub(r"\d+", "", text)
        if kind != self._shown:
            self._since = time.monotonic()
            if not self._live:
                sys.stderr.write(f"  {text}\n")
        self._shown = kind
        if self._live:
            seconds = f", {time.monotonic() - self._since:.0f} s" if kind == text else ""
            line = f"  {text}{seconds}"[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(f"\r\033[2K\033[2m{line}\033[0m")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._live and self._shown:
            sys.stderr.write("\r\033[2K")
            sys.stderr.flush()
        self._shown = ""
