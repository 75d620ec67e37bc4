"""The schema, step by step. `upgrade` works from an installed wheel, `alembic` in a checkout."""

from __future__ import annotations

from pathlib import Path

HEAD = "0008"
"""The revision that this code needs. Revisions are numbered, so they can be compared."""


class MigrationError(Exception):
    """The schema cannot be brought to `HEAD`; the message says what to do."""


def upgrade(database_url: str | None = None) -> None:
    """Migrate the database to the newest revision; waits while another process does the same.

    Args:
        database_url: default: DATABASE_URL from the environment or `.env`.

    Raises:
        MigrationError: the database cannot be reached, or has a newer version's schema.
    """
    # Imported here: a gateway only compares revisions and does not need alembic in memory.
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
