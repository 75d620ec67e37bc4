"""Errors of the framework, the database and Redis as problem details (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus

import psycopg2
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from inference_contract import field_errors
from inference_gateway import changes
from inference_gateway.errors import (
    NOT_KNOWN,
    PROBLEM_JSON,
    GatewayError,
    Invalid,
    Unavailable,
    Unconfirmed,
)
from inference_gateway.http import methods
from inference_gateway.postgres import db
from inference_gateway.redis.clients import NotPrimary

log = logging.getLogger(__name__)

_DATABASE_ERRORS: tuple[type[Exception], ...] = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
)
_UNUSABLE: tuple[type[Exception], ...] = (DataError, psycopg2.DataError, UnicodeEncodeError)
"""Errors of PostgreSQL and its driver about values that passed all earlier checks."""
RETRY_AFTER = {"Retry-After": "2"}


def install(app: FastAPI) -> None:
    # All are async: Starlette calls a plain function on a thread, which keeps references to its
    # arguments until its next job.
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in (*_DATABASE_ERRORS, *_UNUSABLE, InternalError):
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(RedisError, _redis)


def known(error: Exception) -> GatewayError | None:
    """The GatewayError for an exception, for code outside the framework's handlers."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, _UNUSABLE):
        log.warning("a value of a request cannot be used", exc_info=error)
        return Invalid("the request holds a character or a number that cannot be stored")
    if isinstance(error, _DATABASE_ERRORS) or _is_read_only(error):
        return _database_away(error)
    return _redis_away(error) if isinstance(error, RedisError) else None


def respond(error: GatewayError) -> Response:
    return Response(error.problem(), error.status, error.headers, PROBLEM_JSON)


async def _gateway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return respond(error)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(Invalid.of(field_errors.from_details(error.errors())))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # FastAPI wraps every error that occurs while it reads a body.
    if isinstance(error.__cause__, GatewayError):
        return respond(error.__cause__)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"nothing at {request.url.path}: /docs lists what there is"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The framework lists the methods of one route, but a path can have several routes.
        headers["Allow"] = methods.allowed(request.app, request.scope)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"{request.method} is not possible at {request.url.path}: {headers['Allow']} are"
    return respond(_Http(error.status_code, detail, headers))


class _Http(GatewayError):
    """An error that the framework raised, with the status it chose."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        super().__init__(detail, headers=headers)
        self.__dict__.update(status=status, title=HTTPStatus(status).phrase)


async def _database(_: Request, error: Exception) -> Response:
    if (problem := known(error)) is None:
        raise error
    return respond(problem)


def _database_away(error: Exception) -> Unavailable:
    log.warning("PostgreSQL does not answer: %s", db.describe(error))
    is_read_only = _is_read_only(error)
    return _away(f"PostgreSQL {'takes no changes just now' if is_read_only else 'does not answer'}")


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) == db.READ_ONLY


async def _redis(_: Request, error: Exception) -> Response:
    return respond(_redis_away(error))


def _redis_away(error: Exception) -> Unavailable:
    log.warning("Redis does not answer: %s", error)
    is_replica = isinstance(error, NotPrimary)
    return _away(f"Redis {'takes no changes just now' if is_replica else 'does not answer'}")


def _away(what: str) -> Unavailable:
    if changes.have_begun():
        return Unconfirmed(f"{what}; {NOT_KNOWN}")
    return Unavailable(f"{what}; nothing was stored, try again", headers=RETRY_AFTER)
