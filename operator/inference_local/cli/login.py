"""`inference login`, `inference logout`: the server and the account of the other commands."""

from __future__ import annotations

import json
import socket
import sys
from typing import Annotated

import typer

from inference_local.cli.context import DEFAULT_HOME, HomeOption, local_url, out
from inference_local.cli.errors import CliError
from inference_local.home import Home, write_private


def login(
    url: Annotated[
        str | None, typer.Argument(help="The server's URL; left out, this home's own.")
    ] = None,
    username: Annotated[str | None, typer.Option(help="Asked for if left out.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="INFERENCE_TOKEN",
            help="An API token, in place of username and password; '-' reads it from standard "
            "input. Other users of this machine can read what a command line says.",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Save credentials. Without a login, commands use this home's administrator."""
    from inference_local.cli.api import Api

    place = Home(home)
    server = (url or local_url(place)).rstrip("/")
    if token == "-":  # noqa: S105 - stands for standard input
        token = sys.stdin.readline().strip()
    if not token:
        token = _token_by_password(server, username)
    account = Api(server, token).call("GET", "/v1/account")
    if not place.root.exists():
        place.prepare()
    write_private(place.client_file, json.dumps({"url": server, "token": token}))
    out(f"logged in at {server} as {account['username']}")


def logout(home: HomeOption = DEFAULT_HOME) -> None:
    """Forget saved credentials."""
    place = Home(home)
    if not place.client_file.exists():
        raise CliError("not logged in anywhere: commands use this home's own server")
    place.client_file.unlink()
    out("logged out: commands use this home's own server again")


def _token_by_password(server: str, username: str | None) -> str:
    """Create an API token, which does not expire; access tokens expire after minutes."""
    from inference_local.cli.api import Api

    name = username or typer.prompt("Username")
    password = typer.prompt("Password", hide_input=True)
    form = {"username": name, "password": password}
    access = Api(server, None).call("POST", "/v1/auth/token", data=form)["access_token"]
    label = {"name": f"inference login on {socket.gethostname()}"[:100]}
    made = Api(server, access).call("POST", "/v1/auth/tokens", json=label)
    return str(made["token"])
