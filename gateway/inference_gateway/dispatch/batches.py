"""Writes many items in one statement; an item that the database refuses does not block others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import DBAPIError

from inference_gateway.postgres import db

Item = TypeVar("Item")
Result = TypeVar("Result")

_DATA_ERRORS = ("21", "22", "23", "54")
"""Classes of SQLSTATE for errors of the data: a retry fails again."""


def write(
    statement: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    set_aside: Callable[[Item, Exception], Result],
) -> list[Result]:
    """Write all items in one statement. After an error of the data, write the halves separately,
    until each bad item is alone.

    Args:
        set_aside: called with a bad item and its error.

    Raises:
        sqlalchemy.exc.DBAPIError, psycopg2.Error: the database does not answer or is busy; retry
            the whole batch.
    """
    if not items:
        return []
    try:
        return [statement(items)]
    except (DBAPIError, psycopg2.Error, TypeError, ValueError) as error:
        if not blames_data(error):
            raise
        if len(items) == 1:
            return [set_aside(items[0], error)]
    middle = len(items) // 2
    first = write(statement, items[:middle], set_aside)
    return first + write(statement, items[middle:], set_aside)


def blames_data(error: Exception) -> bool:
    """Whether the error is one of the data. TypeError and ValueError come from encoders."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, psycopg2.Error):
        return str(origin.pgcode)[:2] in _DATA_ERRORS
    return isinstance(error, TypeError | ValueError)


def reason(error: Exception) -> str:
    """The error in one line."""
    return db.describe(error) or type(error).__name__
