"""How rows of predictions are read whose content may be large: their length first, the content only
if there is room for it, as bytes that are passed on."""

from __future__ import annotations

from sqlalchemy import Connection

from inference_gateway.lifecycle.wire import Row
from inference_gateway.postgres import stored
from inference_gateway.postgres.tables import BRIEF, LARGE

_JSON = ("input", "output")
AS_READ = {"input": "input::text::bpchar", "output": "output::text::bpchar", "logs": "logs"}
"""See `stored`."""
_SMALL_STORED_BYTES = 8000
"""As PostgreSQL stores them, compressed: known without reading them."""
_SMALL_BYTES = 20_000
"""As texts. Compressed they may be a thousandth of that, and as Python's objects twenty times."""
_KEEPS_BYTES = 1_000_000

_STORED_SIZE = " + ".join(f"coalesce(pg_column_size({name}), 0)" for name in LARGE)
_TEXT_SIZE = " + ".join(f"coalesce(octet_length({name}::text), 0)" for name in LARGE)
IS_SMALL = (
    f"CASE WHEN {_STORED_SIZE} < {_SMALL_STORED_BYTES} THEN {_TEXT_SIZE} < {_SMALL_BYTES}"
    " ELSE false END"
)
"""Whether a row may be read as it is."""
_LENGTH = " + ".join(f"coalesce(octet_length({name}), 0)" for name in LARGE)


def if_room(which: str) -> str:
    """The query of a row for `passed_on`. It has also `bytes`, of all that may be large; that
    itself only if they are no more than the parameter `room`.

    Args:
        which: the condition that it meets.
    """
    content = ", ".join(
        f"CASE WHEN {_LENGTH} <= :room THEN {AS_READ[name]} END AS {name}" for name in LARGE
    )
    # Each value is made a text once, for its length and for itself.
    texts = ", ".join(f"{name}::text AS {name}" for name in LARGE)
    return f"""
SELECT {BRIEF}, {_LENGTH} AS bytes, {content}
FROM (SELECT {BRIEF}, {texts} FROM predictions WHERE {which} OFFSET 0) AS found
"""  # noqa: S608 - constants of ours


def passed_on(row: Row) -> Row:
    """Large values as `stored.PassedOn`."""
    return {**row, **{name: stored.passed_on(row[name]) for name in _JSON}}


def let_go(connection: Connection, size: int) -> None:
    """Of a connection after so large an answer: libpq's buffer has grown, and never shrinks."""
    if size > _KEEPS_BYTES:
        connection.invalidate()
