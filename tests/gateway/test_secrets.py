"""What people trust us with stands in no log."""

from __future__ import annotations

import logging
import sys

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from inference_contract.logs import JsonFormatter
from inference_gateway.dispatch import batches
from inference_gateway.postgres import db
from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError, read_settings

SECRET = "hunter2ofada"


def _failures(settings: GatewaySettings) -> list[Exception]:
    """Errors of PostgreSQL that quote what was to be stored, each in its own way."""
    engine = db.engine(settings)
    row = "INSERT INTO users (username, email, password_hash, webhook_secret)"
    statements = [
        f"{row} VALUES (:secret, NULL, '', '')",
        f"{row} VALUES (:secret, 'a@b', '', ''), (:secret, 'c@d', '', '')",
        "SELECT CAST(:secret || '{' AS jsonb)",
        "SELECT nonsense FROM users WHERE email = :secret",
    ]
    found: list[Exception] = []
    for statement in statements:
        try:
            with engine.begin() as connection:
                connection.execute(text(statement), {"secret": SECRET})
        except SQLAlchemyError as error:
            found.append(error)
    engine.dispose()
    assert len(found) == len(statements)
    return found


def test_errors_of_the_database_are_told_without_what_was_to_be_stored(
    settings: GatewaySettings,
) -> None:
    for error in _failures(settings):
        assert SECRET in str(getattr(error, "orig", "")), "or this test shows nothing"
        for described in (db.describe(error), batches.reason(error)):
            assert described
            assert SECRET not in described
        try:
            raise error
        except SQLAlchemyError:
            record = logging.LogRecord("x", logging.ERROR, "", 0, "x", (), sys.exc_info())
        line = JsonFormatter("gateway").format(record)
        assert type(error).__name__ in line
        assert SECRET not in line


def test_other_errors_are_told_in_one_line() -> None:
    assert db.describe(psycopg2.OperationalError("away\n  at all")) == "away at all"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "nonsense-{}"),
        ("DATABASE_URL", "postgresql://u:p@host:{}/database"),
        ("REDIS_URL", "nonsense-{}"),
        ("REDIS_URL", "redis://:{}/x@host/0"),
        ("REDIS_URL", "http://:{}@host/0"),
    ],
)
def test_a_url_that_is_wrong_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///x")
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    monkeypatch.setenv(name, url.format(SECRET))
    with pytest.raises(ConfigurationError, match=f"^{name} is no URL") as refused:
        read_settings()
    assert SECRET not in str(refused.value)
