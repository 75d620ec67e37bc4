"""`python -m inference_gateway.auth.bootstrap --username NAME`: an administrator's API token.

Creates the account (without a password) if it is missing, prints a new token on standard output and
revokes the token of the last run. Needs DATABASE_URL only.
"""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError, DBAPIError

from inference_gateway.auth import accounts
from inference_gateway.auth.passwords import UNUSABLE
from inference_gateway.auth.schemas import RESERVED
from inference_gateway.postgres import db
from inference_gateway.settings import DatabaseSettings

TOKEN_NAME = "bootstrap"  # noqa: S105 - a label


class BootstrapError(Exception):
    """One line that says what to do."""


def bootstrap(engine: Engine, username: str) -> str:
    """Returns the token. Raises BootstrapError."""
    if username in RESERVED:
        # A reserved name cannot have been registered: the account is ours.
        accounts.restore(engine, username)
    account = accounts.find(engine, username)
    if account is None:
        email = f"{username}@localhost"
        account = accounts.create(engine, username, email, UNUSABLE, is_admin=True)
    if not account.is_admin or account.disabled_at is not None:
        # The account may have been registered by anybody: it must not become an administrator.
        raise BootstrapError(
            f"{username} exists and is no administrator, or disabled: choose another username"
        )
    return accounts.renew_api_token(engine, account.id, TOKEN_NAME)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="inference_gateway.auth.bootstrap")
    parser.add_argument("--username", required=True)
    username = parser.parse_args(argv).username
    try:
        engine = db.short_lived_engine(DatabaseSettings())
        sys.stdout.write(bootstrap(engine, username) + "\n")
    except ValidationError:
        sys.stderr.write("DATABASE_URL is not set: postgresql://user:password@host:port/database\n")
        return 2
    except (BootstrapError, ArgumentError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except DBAPIError as error:
        # A repeated run completes what was interrupted.
        sys.stderr.write(f"{db.describe(error)}; run this again: the last token may have ended\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
