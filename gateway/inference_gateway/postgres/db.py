"""Connections to PostgreSQL."""

from __future__ import annotations

import socket
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.pool import NullPool

from inference_gateway import changes
from inference_gateway.settings import DatabaseSettings, GatewaySettings

READ_ONLY = "25006"
"""SQLSTATE of a write to a standby or a read-only server."""


def connect_args(settings: DatabaseSettings, url: URL) -> dict[str, Any]:
    """libpq options: the address, and timeouts for a hung server."""
    args: dict[str, Any] = {
        "application_name": "inference-gateway",
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "tcp_user_timeout": 15_000,
        "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=30s",
    }
    if settings.database_hostaddr:
        args["hostaddr"] = settings.database_hostaddr
    elif settings.database_force_ipv4 and url.host and not url.host.startswith("/"):
        found = socket.getaddrinfo(url.host, url.port or 5432, family=socket.AF_INET)
        args["hostaddr"] = str(found[0][4][0])
    return args


def connect_async(settings: DatabaseSettings) -> Connection:
    """In psycopg2's asynchronous mode, for `Polled`. Raises psycopg2.OperationalError."""
    url = make_url(settings.database_url)
    arguments = url.translate_connect_args(username="user", database="dbname")
    options: dict[str, Any] = {**arguments, **url.query, **connect_args(settings, url)}
    made: Connection = psycopg2.connect(**options, async_=True)
    return made


def engine(settings: GatewaySettings, pool_size: int | None = None) -> Engine:
    """A connection pool that tests connections, so that a restart of the server is noticed."""
    url = _url(settings)
    made = create_engine(
        url,
        pool_size=pool_size or settings.database_pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args=connect_args(settings, url),
    )
    event.listen(made, "handle_error", _leave_a_standby)
    event.listen(made, "commit", lambda _: changes.begin())
    return made


def _leave_a_standby(context: ExceptionContext) -> None:
    """After a refused write the server is a former primary: drop all connections of the pool."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def short_lived_engine(settings: DatabaseSettings) -> Engine:
    """Without a pool, for commands that run once.

    Raises:
        sqlalchemy.exc.ArgumentError: if DATABASE_URL is not a URL.
    """
    url = _url(settings)
    return create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args=connect_args(settings, url)
    )


def describe(error: Exception) -> str:
    """PostgreSQL's message in one line, without the details, which quote users' data."""
    origin = getattr(error, "orig", None) or error
    primary = getattr(getattr(origin, "diag", None), "message_primary", None)
    return " ".join(str(primary or origin).split())


def _url(settings: DatabaseSettings) -> URL:
    return make_url(settings.database_url).set(drivername="postgresql+psycopg2")
