"""The migrations against the real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from inference_gateway import migrate, migrations
from inference_gateway.postgres import db
from inference_gateway.postgres.tables import Base
from inference_gateway.settings import DatabaseSettings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cursor(database_url: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    yield connection.cursor()
    connection.close()


def alembic(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "alembic"), *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )


def insert(cursor: psycopg2.extensions.cursor, status: str) -> None:
    cursor.execute(
        "INSERT INTO predictions (id, owner, model, version, status, token, input, deadline,"
        " completed_at) VALUES (gen_random_uuid(), gen_random_uuid(), 'ada/echo', '1', %s, 't',"
        " '{}', now(),"
        " CASE WHEN %s IN ('starting', 'processing') THEN NULL ELSE now() END)",
        (status, status),
    )


def config(database_url: str | None = None) -> Config:
    made = Config(attributes={"database_url": database_url})
    made.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return made


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == migrations.HEAD


def test_autogenerate_finds_nothing(database_url: str) -> None:
    engine = db.short_lived_engine(DatabaseSettings(database_url=database_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_names_and_predicates_are_the_tables_own(
    database_url: str, cursor: psycopg2.extensions.cursor
) -> None:
    """`compare_metadata` looks at neither check constraints nor predicates of indexes."""
    definitions = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " AND tablename <> 'alembic_version' UNION ALL "
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%' ORDER BY 1, 2"
    )
    cursor.execute(definitions)
    migrated = cursor.fetchall()
    cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = db.short_lived_engine(DatabaseSettings(database_url=database_url))
    Base.metadata.create_all(engine)
    cursor.execute(definitions)
    assert migrated == cursor.fetchall()


def test_down_and_up_again(database_url: str, cursor: psycopg2.extensions.cursor) -> None:
    command.downgrade(config(database_url), "base")
    cursor.execute("SELECT count(*) FROM alembic_version")
    assert cursor.fetchone() == (0,)
    migrations.upgrade(database_url)
    cursor.execute("SELECT version_num FROM alembic_version")
    assert cursor.fetchone() == (migrations.HEAD,)


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
def test_a_terminal_state_is_final(cursor: psycopg2.extensions.cursor, status: str) -> None:
    insert(cursor, status)
    with pytest.raises(psycopg2.errors.CheckViolation, match="a terminal state is final"):
        cursor.execute("UPDATE predictions SET logs = 'late'")


def test_an_open_prediction_may_change(cursor: psycopg2.extensions.cursor) -> None:
    insert(cursor, "processing")
    cursor.execute("UPDATE predictions SET status = 'succeeded', completed_at = now()")
    assert cursor.rowcount == 1


def test_a_newer_database_is_refused(database_url: str, cursor: psycopg2.extensions.cursor) -> None:
    cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrations.MigrationError, match=r"9999.*newer version"):
        migrations.upgrade(database_url)
    failed = alembic(database_url, "upgrade", "head")
    assert failed.returncode != 0
    assert "newer version" in failed.stdout + failed.stderr


def test_migrators_wait_for_each_other(
    database_url: str, cursor: psycopg2.extensions.cursor
) -> None:
    cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    # Threads would share alembic's global context.
    migrator = [sys.executable, "-m", "inference_gateway.migrate"]
    environment = {**os.environ, "DATABASE_URL": database_url}
    both = [subprocess.Popen(migrator, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]


@pytest.mark.parametrize(
    ("database_url", "message"),
    [
        (None, "DATABASE_URL is not set"),
        ("nonsense", "DATABASE_URL is not a URL"),
        ("postgresql://u@127.0.0.1:1/db", "PostgreSQL does not answer"),
    ],
)
def test_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if database_url is None:
        monkeypatch.delenv("DATABASE_URL", raising=False)
    else:
        monkeypatch.setenv("DATABASE_URL", database_url)
    assert migrate.main() == 1
    line = capsys.readouterr().err
    assert line.startswith(message)
    assert line.count("\n") == 1


def test_owners_by_name_become_accounts(
    database_url: str, cursor: psycopg2.extensions.cursor
) -> None:
    """Also of what has ended, and of names that nobody has any more."""
    command.downgrade(config(database_url), "0001")
    cursor.execute(
        "INSERT INTO users (username, email, password_hash, webhook_secret)"
        " VALUES ('ada', 'ada@example.com', '!', 's') RETURNING id"
    )
    ada = cursor.fetchone()
    for owner in ("ada", "gone", "gone-too"):
        cursor.execute(
            "INSERT INTO predictions (id, owner, model, version, status, token, input, deadline,"
            " idempotency_key, completed_at) VALUES (gen_random_uuid(), %s, 'a/b', '1',"
            " 'succeeded', 't', '{}', now(), 'key', now())",
            (owner,),
        )
    migrations.upgrade(database_url)
    cursor.execute("SELECT id FROM predictions WHERE owner = %s", ada)
    assert cursor.rowcount == 1
    cursor.execute("SELECT count(DISTINCT owner) FROM predictions")
    assert cursor.fetchone() == (3,)
