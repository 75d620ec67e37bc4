"""Statements that carry many items: one that the database does not take holds up no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import DBAPIError

from inference_gateway.postgres import db

Item = TypeVar("Item")
Result = TypeVar("Result")

_DATA_ERRORS = ("21", "22", "23", "54")
"""Classes of SQLSTATE that blame the data: sent again, they fail again."""


def write(
    statement: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    set_aside: Callable[[Item, Exception], Result],
) -> list[Result]:
    """All items in one statement; if the data is to blame in halves, until the culprits are alone.

    Args:
        set_aside: gets a culprit, and what is wrong with it.

    Raises:
        sqlalchemy.exc.DBAPIError, psycopg2.Error: the database is away or busy; to be tried again
            as a whole.
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
    """TypeError and ValueError come from encoders."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, psycopg2.Error):
        return str(origin.pgcode)[:2] in _DATA_ERRORS
    return isinstance(error, TypeError | ValueError)


def reason(error: Exception) -> str:
    """In one line."""
    return db.describe(error) or type(error).__name__
