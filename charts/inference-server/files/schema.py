"""`migrate` brings the schema to what this version wants, `wait` waits until somebody has.

Neither touches the schema of a newer version: after a rollback the older code serves on with it.
"""

import sys
import time

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from inference_gateway import migrations
from inference_gateway.api.health import schema_state
from inference_gateway.health_state import HealthState
from inference_gateway.postgres import db
from inference_gateway.settings import DatabaseSettings


def revision() -> str | None:
    """None if the schema was never made."""
    with db.short_lived_engine(DatabaseSettings()).connect() as connection:
        try:
            found: str | None = connection.execute(
                text("SELECT version_num FROM alembic_version")
            ).scalar()
        except ProgrammingError:
            return None
        return found


def main(verb: str, seconds: float) -> int:
    end = time.monotonic() + seconds
    said = ""
    while True:
        try:
            schema = schema_state(revision())
        except (SQLAlchemyError, OSError) as error:
            message = f"PostgreSQL does not answer: {' '.join(str(error).split())}"
        else:
            message = schema.message
            if schema.status is not HealthState.UNAVAILABLE:
                sys.stdout.write(f"{message}\n")
                return 0
            if verb == "migrate":
                migrations.upgrade()
                continue
        if message != said:
            sys.stdout.write(f"waiting: {message}\n")
            sys.stdout.flush()
            said = message
        if time.monotonic() > end:
            return 1
        time.sleep(1)


try:
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
except migrations.MigrationError as error:
    sys.exit(str(error))
