"""A column of predictions is in the table and in the typed row, and everybody who lists columns
has it, or says here that it is none of theirs.

What to do with a new one: `postgres/tables.py` and a migration, then `lifecycle/prediction.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from sqlalchemy.dialects import postgresql
from typing_extensions import ReadOnly

from inference_gateway.lifecycle import ends, job_queue
from inference_gateway.lifecycle.prediction import (
    Attempt,
    End,
    Handed,
    NewRow,
    OpenAttempt,
    Row,
    State,
)
from inference_gateway.lifecycle.rows import AS_READ
from inference_gateway.lifecycle.wire import to_wire
from inference_gateway.postgres.tables import BRIEF, LARGE, Prediction
from inference_gateway.predictions.creating.insert import record
from inference_gateway.predictions.creating.statements import INSERTED
from inference_gateway.predictions.openapi import PREDICTION

TABLE = Prediction.__table__
COLUMNS = set(TABLE.columns.keys())
ANYTHING = {"input", "output", "metrics"}
"""Somebody may have written any JSON there by hand."""
NO_COLUMNS = {"status_detail", "lives_seconds"}
HIDDEN = {
    *("owner", "attempt", "token", "crashes", "input_bytes", "held", "webhook_events", "base_url"),
    *("request_hash", "lease_until", "cancel_requested_at"),
}
"""Columns that no client sees."""
NOT_OF_A_ROW = {"model_id", "data_removed", "source", "urls"}
"""What clients see, and no row has."""
SET_BY_POSTGRES = {"created_at", "deadline"}
MOMENT = datetime.now(UTC)


class Spy(dict[str, Any]):
    """A row of which is known what was read."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def _row() -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {"id": UUID(int=1), "model": "a/b", "status": "starting"}
    return row | {"created_at": MOMENT, "deadline": MOMENT, "status_detail": {}}


def _members(hint: Any) -> set[Any]:
    """The types of a union; a list and a sequence of texts are as good as one another."""
    if get_origin(hint) is ReadOnly:
        (hint,) = get_args(hint)
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return {list[str] if get_origin(part) not in (None, dict) else part for part in parts}


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_the_typed_row_has_each_column_with_its_type(name: str) -> None:
    typed = get_type_hints(Row)
    assert name in typed, "lifecycle/prediction.py has no such column"
    if name not in ANYTHING:
        (stored,) = get_args(get_type_hints(Prediction)[name])
        assert _members(typed[name]) == _members(stored)


def test_the_typed_row_has_nothing_else() -> None:
    assert set(get_type_hints(Row)) - NO_COLUMNS == COLUMNS
    assert set(get_type_hints(State)) == set(BRIEF.split(", ")) == COLUMNS - set(LARGE)
    for part in (Attempt, OpenAttempt, Handed, End, NewRow):
        assert set(get_type_hints(part)) - NO_COLUMNS <= COLUMNS, part


def test_a_new_row_brings_each_column_that_postgresql_does_not_fill() -> None:
    filled = {c.name for c in TABLE.columns if c.nullable or c.server_default is not None}
    assert COLUMNS - filled <= INSERTED.keys() | SET_BY_POSTGRES
    assert INSERTED.keys() <= get_type_hints(NewRow).keys() & COLUMNS
    new: Any = dict.fromkeys(get_type_hints(NewRow))
    assert record(new).keys() == INSERTED.keys() | {"lives_seconds"}
    # What a caller waits for is shown from the row that was made, or from what its end says.
    shown = COLUMNS - HIDDEN
    assert shown <= get_type_hints(NewRow).keys()


@pytest.mark.parametrize("name", INSERTED)
def test_a_new_column_is_sent_with_the_type_that_it_is_stored_with(name: str) -> None:
    stored = TABLE.columns[name].type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]
    assert INSERTED[name].replace("int", "integer") == stored.lower()


def test_the_wire_shows_each_column_that_is_not_hidden() -> None:
    spy: Any = Spy(_row())
    to_wire(spy, "http://a")
    assert spy.read - NO_COLUMNS == COLUMNS - HIDDEN


def test_the_document_has_what_the_wire_shows() -> None:
    row: Any = _row()
    wire = to_wire(row, "http://a")
    assert wire.keys() == PREDICTION["properties"].keys()
    assert wire.keys() - NOT_OF_A_ROW - NO_COLUMNS <= COLUMNS


def test_what_is_read_in_pieces_is_what_may_be_large() -> None:
    assert AS_READ.keys() == set(LARGE)


def test_an_end_tells_its_columns() -> None:
    for name in End.__annotations__:
        assert f"'{name}', p.{name}" in ends.COLUMNS
    assert ", ".join(f"p.{name}" for name in get_type_hints(Handed)) == job_queue.HANDED
