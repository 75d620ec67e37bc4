"""`inference users`: accounts, for administrators."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from inference_local.cli.context import DEFAULT_HOME, HomeOption, api, out
from inference_local.home import Home

app = typer.Typer(help="Accounts, for administrators.", no_args_is_help=True)

COLUMNS = ("NAME", "ROLE", "STATE", "EMAIL", "CREATED")

Username = Annotated[str, typer.Argument(help="The account's name.")]


@app.command("list")
def list_users(home: HomeOption = DEFAULT_HOME) -> None:
    """All accounts."""
    from inference_local.cli.render import table

    table(COLUMNS, [row(user) for user in api(Home(home)).pages("/v1/users", 100_000)])


@app.command("create")
def create_user(
    username: Username,
    email: Annotated[str, typer.Option(help="Its address.")],
    admin: Annotated[bool, typer.Option("--admin", help="An administrator.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Create an account, also for a name that has models already; asks for its password."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    body = {"username": username, "email": email, "password": password, "is_admin": admin}
    api(Home(home)).call("POST", "/v1/users", json=body)
    out(f"{username} created")


def _changes(name: str, help: str, done: str, **changes: bool) -> None:
    """A command that changes an account."""

    @app.command(name, help=help)
    def change(username: Username, home: HomeOption = DEFAULT_HOME) -> None:
        api(Home(home)).call("PATCH", _path(username), json=changes)
        out(f"{username} {done}")


_changes(
    "disable",
    "Disable an account; its open predictions go on.",
    "disabled",
    disabled=True,
)
_changes(
    "enable",
    "Enable a disabled account; its API tokens work as before.",
    "enabled",
    disabled=False,
)
_changes("promote", "Make an account an administrator.", "is an administrator", is_admin=True)
_changes(
    "demote",
    "Make an administrator an ordinary account.",
    "is no administrator any more",
    is_admin=False,
)


@app.command("delete")
def delete(
    username: Username,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Delete an account: its tokens end, its models are removed, its open predictions canceled.
    Its name cannot be used again."""
    client = api(Home(home))
    if not yes:
        typer.confirm(f"Delete {username}, and all models of it?", abort=True)
    client.call("DELETE", _path(username))
    out(f"{username} deleted")


def row(user: dict[str, Any]) -> tuple[str, ...]:
    from inference_local.cli.render import ago

    role = "admin" if user["is_admin"] else "user"
    state = "disabled" if user["disabled"] else "active"
    return user["username"], role, state, user["email"], ago(user["created_at"])


def _path(username: str) -> str:
    return f"/v1/users/{quote(username, safe='')}"
