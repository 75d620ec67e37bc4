"""The schema, step by step. `upgrade` works from an installed wheel, `alembic` in a checkout."""

from __future__ import annotations

from pathlib import Path

HEAD = "0008"
"""The revision this version of the code wants. Revisions are numbered, so they can be compared."""


class MigrationError(Exception):
    """The schema cannot be brought to `HEAD`; the message says what to do."""


def upgrade(database_url: str | None = None) -> None:
    """Bring the database to the newest revision; waits while another process does the same.

    Args:
        database_url: default: DATABASE_URL from the environment or `.env`.

    Raises:
        MigrationError: if there is no such database, or it is a newer version's.
    """
    # Here, so that a gateway that only compares revisions does not carry alembic in memory.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy.exc import OperationalError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(str(error)) from error
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise MigrationError(f"PostgreSQL does not answer as DATABASE_URL says: {reason}") from None
