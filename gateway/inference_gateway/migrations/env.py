"""alembic's environment: connects as the gateway does, one migration at a time."""

from __future__ import annotations

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy import Connection, text
from sqlalchemy.exc import ArgumentError

from inference_gateway.postgres import db
from inference_gateway.postgres.tables import Base
from inference_gateway.settings import DatabaseSettings

_LOCK = 7_263_501_184
"""Key of the advisory lock that migrators of this schema share."""


def connect() -> Connection:
    given = context.config.attributes.get("database_url")
    try:
        settings = DatabaseSettings(database_url=given) if given else DatabaseSettings()
        return db.short_lived_engine(settings).connect()
    except ValidationError:
        raise CommandError(
            "DATABASE_URL is not set: postgresql://user:password@host:port/database"
        ) from None
    except ArgumentError:
        raise CommandError(
            "DATABASE_URL is not a URL: postgresql://user:password@host:port/database"
        ) from None


def refuse_unknown_revision(migration: MigrationContext) -> None:
    """Refuse a database that a newer version has migrated."""
    known = {revision.revision for revision in context.script.walk_revisions()}
    for revision in migration.get_current_heads():
        if revision not in known:
            raise CommandError(
                f"the database is at revision {revision}, which this version does not know: "
                "it holds the state of a newer version; install that version, "
                "or point DATABASE_URL at another database"
            )


def migrate(connection: Connection) -> None:
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata)
    refuse_unknown_revision(context.get_context())
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with connect() as _connection:
        migrate(_connection)
