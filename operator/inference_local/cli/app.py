"""The list of commands, and the printing of their errors."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from inference_local.cli import (
    lifecycle,
    login,
    logs,
    models,
    predict,
    predictions,
    status,
    terminal,
    users,
)
from inference_local.cli.errors import CliError
from inference_local.home import HomeError
from inference_local.ports import PortError

app = typer.Typer(
    name="inference",
    help="A model server on this machine: start it, give it models, run predictions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # Plain text starts faster, and its lines can be searched.
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(lifecycle.up)
app.command()(lifecycle.down)
app.command()(status.status)
app.command()(login.login)
app.command()(login.logout)
app.add_typer(models.app, name="models")
app.command()(predict.predict)
app.add_typer(predictions.app, name="predictions")
app.add_typer(users.app, name="users")
app.command()(logs.logs)


def run() -> None:
    terminal.prepare()
    try:
        app()
        sys.stdout.flush()
    except (CliError, HomeError, PortError) as error:
        _fail(str(error))
    except OSError as error:
        terminal.abandon_output()
        if not terminal.is_closed(error):
            _fail(f"{error.filename or 'standard output'}: {error.strerror}")
        sys.exit(1)


def _fail(reason: str) -> NoReturn:
    sys.stderr.write(f"inference: {reason}\n")
    sys.exit(1)
