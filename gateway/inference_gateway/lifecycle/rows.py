"""Reads rows with large columns: first their length; the content only if there is space for it, as
bytes that are passed on without parsing."""

from __future__ import annotations

from typing import TypeVar, cast

from sqlalchemy import Connection

from inference_gateway.lifecycle.prediction import Row
from inference_gateway.postgres import stored
from inference_gateway.postgres.tables import BRIEF, LARGE

AS_READ = {"input": "input::text::bpchar", "output": "output::text::bpchar", "logs": "logs"}
"""See `stored`."""
_SMALL_STORED_BYTES = 8000
"""Stored, compressed bytes: known without reading the values."""
_SMALL_BYTES = 20_000
"""Bytes of text. Compressed they may be a thousandth of that, as Python objects twenty times."""
_KEEPS_BYTES = 1_000_000

_STORED_SIZE = " + ".join(f"coalesce(pg_column_size({name}), 0)" for name in LARGE)
_TEXT_SIZE = " + ".join(f"coalesce(octet_length({name}::text), 0)" for name in LARGE)
IS_SMALL = (
    f"CASE WHEN {_STORED_SIZE} < {_SMALL_STORED_BYTES} THEN {_TEXT_SIZE} < {_SMALL_BYTES}"
    " ELSE false END"
)
"""Whether a row is small enough to be read as Python objects."""
_LENGTH = " + ".join(f"coalesce(octet_length({name}), 0)" for name in LARGE)


class SizedRow(Row):
    bytes: int
    """Of all that may be large."""


_Row = TypeVar("_Row", bound=Row)


def if_room(which: str) -> str:
    """The query of a row for `passed_on`. The column `bytes` is the size of its large columns;
    these are NULL if it exceeds the parameter `room`.

    Args:
        which: condition on the row.
    """
    content = ", ".join(
        f"CASE WHEN {_LENGTH} <= :room THEN {AS_READ[name]} END AS {name}" for name in LARGE
    )
    # Each value is converted to text once, for its length and its content.
    texts = ", ".join(f"{name}::text AS {name}" for name in LARGE)
    return f"""
SELECT {BRIEF}, {_LENGTH} AS bytes, {content}
FROM (SELECT {BRIEF}, {texts} FROM predictions WHERE {which} OFFSET 0) AS found
"""  # noqa: S608 - constants of ours


def passed_on(row: _Row) -> _Row:
    """The row with its large values as `stored.PassedOn`."""
    read = {"input": stored.passed_on(row["input"]), "output": stored.passed_on(row["output"])}
    return cast("_Row", {**row, **read})


def let_go(connection: Connection, size: int) -> None:
    """Close a connection after a large result: libpq's buffer never shrinks."""
    if size > _KEEPS_BYTES:
        connection.invalidate()
