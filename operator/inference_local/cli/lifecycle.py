"""`inference up`, `inference down`."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from inference_local import ports
from inference_local.cli import launch
from inference_local.cli.context import DEFAULT_HOME, DEFAULT_HOST, DEFAULT_PORT, HomeOption, out
from inference_local.cli.terminal import has_style, program
from inference_local.home import Home, HomeError


def up(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; Ctrl-C stops.")] = False,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="API_PORT", min=0, max=65_535, help="Default: the last one, or 8000. 0: any."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(envvar="API_HOST", help="Default: the last one, or this machine only."),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(help="A model document to apply, and to run one prediction on."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print where the time went.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Start the server in the background; does nothing when it is up."""
    start = time.monotonic()
    place = Home(home)
    with place.being_started():
        for note in place.prepare():
            sys.stderr.write(f"inference: {note}\n")
        before = launch.running(place)
        if before is not None and foreground:
            where = f"pid {before['pid']}, at {before['url']}"
            raise HomeError(f"{place.root} is in use by another instance ({where})")
        state = launch.wait_ready(place) if before is not None else None
        word = "already up"
        if state is None:
            word = "up"
            state = _start(place, foreground=foreground, port=port, host=host)
    headline = f"{word} at {state['url']}"
    if word == "up":
        headline += f" after {time.monotonic() - start:.1f} s"
    if verbose:
        for step in state["steps"]:
            out(f"  {step['seconds']:6.2f} s  {step['name']}")
    shown = None
    try:
        if example is not None:
            from inference_local.cli.example import show

            shown = show(place, example)
    finally:
        _summary(place, state, headline, shown)


def _start(place: Home, *, foreground: bool, port: int | None, host: str | None) -> dict[str, Any]:
    chosen = place.instance()
    address = host or chosen.get("host", DEFAULT_HOST)
    number = port if port is not None else chosen.get("port", DEFAULT_PORT)
    if number == 0:
        number = ports.free_port(address)
    ports.require_free(address, number)
    if foreground:
        launch.in_foreground(place, address, number)
    return launch.detached(place, address, number)


def down(home: HomeOption = DEFAULT_HOME) -> None:
    """Stop the server and its runners. What is stored stays."""
    place = Home(home)
    if not place.root.exists() or not launch.stop(place):
        out("not running")
    else:
        out("stopped")


def _summary(place: Home, state: dict[str, Any], headline: str, model: str | None) -> None:
    url, token = state["url"], shlex.quote(str(place.token_file))
    bearer = f'-H "Authorization: Bearer $(cat {token})"'
    if model:
        body = f'{{"model_id": "{model}", "input": {{"prompt": "What is the sea?"}}}}'
        more = f"-H 'Content-Type: application/json' -H 'Prefer: wait' -d '{body}'"
        curl = f"curl -s {url}/v1/predictions {bearer} {more}"
    else:
        curl = f"curl -s {url}/v1/models {bearer}"
    stop = f"{program()} down"
    if place.root != Home(DEFAULT_HOME).root:
        stop += f" --home {shlex.quote(str(place.root))}"
    bold, end = ("\033[1m", "\033[0m") if has_style() else ("", "")
    out(f"\n{bold}inference is {headline}{end}\n")
    out(f"  docs   {url}/docs")
    out(f"  token  {place.token_file}")
    out(f"  try    {curl}")
    out(f"  stop   {stop}")
