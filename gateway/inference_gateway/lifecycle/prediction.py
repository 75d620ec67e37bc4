"""A prediction's row, as all code has it: a plain dict by column, so that the types cost nothing.

`postgres/tables.py` has the same columns, with what PostgreSQL keeps about them; a test compares
the two, and what is inserted, told and shown with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NotRequired, cast
from uuid import UUID

from typing_extensions import ReadOnly, TypedDict


class Attempt(TypedDict):
    """What a job is found by."""

    id: ReadOnly[UUID | str]
    model: str
    attempt: int


class OpenAttempt(Attempt):
    id: ReadOnly[UUID]
    status: str
    token: str


class Handed(Attempt):
    """What a job is made of."""

    token: str
    input: Any
    webhook_events: ReadOnly[Sequence[str] | None]
    crashes: int


class State(OpenAttempt):
    """The columns that are never large: `tables.BRIEF`."""

    owner: UUID
    version: str
    crashes: int
    input_bytes: int
    held: bool
    error: str | None
    error_code: str | None
    metrics: Any
    """An object, unless somebody has written another value there; so are `input` and `output`."""
    webhook: str | None
    webhook_events: ReadOnly[Sequence[str] | None]
    base_url: str | None
    idempotency_key: str | None
    request_hash: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    lease_until: datetime | None
    deadline: datetime
    cancel_requested_at: datetime | None


class Row(State):
    input: Any
    output: Any
    logs: str
    status_detail: NotRequired[dict[str, str]]
    """No column: what it waits for, for who asks."""


class End(TypedDict):
    """The columns that the end of an attempt sets."""

    attempt: int
    status: str
    output: Any
    logs: str
    error: str | None
    error_code: str | None
    metrics: Any
    started_at: datetime | None
    completed_at: datetime | None


class NewRow(TypedDict):
    """One that shall be stored; the moments come from PostgreSQL."""

    id: str
    owner: str
    model: str
    version: str
    status: str
    attempt: int
    token: str
    crashes: int
    input: Any
    input_bytes: int
    held: bool
    output: None
    logs: str
    error: None
    error_code: None
    metrics: None
    webhook: str | None
    webhook_events: ReadOnly[Sequence[str] | None]
    base_url: str | None
    idempotency_key: str | None
    request_hash: str | None
    created_at: datetime | None
    started_at: None
    completed_at: None
    deadline: datetime | None
    lives_seconds: int
    """No column: from its creation to its deadline."""


def as_stored(row: NewRow | Row) -> Row:
    """The same, once it has its moments. Its ids are texts still, as who shows a row makes them."""
    return cast("Row", row)
