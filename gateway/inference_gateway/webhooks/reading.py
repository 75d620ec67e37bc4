"""Reads the rows for webhooks. Small rows are read together, large ones one after another, as
bytes, and only if there is space for them until they are sent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import cast
from uuid import UUID

from sqlalchemy import Engine, text

from inference_gateway.lifecycle import rows
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.lifecycle.wire import without_content
from inference_gateway.postgres.tables import BRIEF, LARGE

_MOST_BYTES = 64_000_000
"""Bytes of large rows in memory until they are sent: with a slow receiver for as long as an attempt
may take."""
_LARGEST = _MOST_BYTES // 2
_LINE = 4
"""Large rows that wait to be read; the last of them must be sent before its claim ends."""
_PAUSE_SECONDS = 1.0
"""Pause after an owner had no space: reading the size of a row takes a tenth of a second."""

_CONTENT = ", ".join(f"CASE WHEN is_small THEN {name} END AS {name}" for name in LARGE)
_TOGETHER = text(f"""
SELECT {BRIEF}, {_CONTENT}, is_small, webhook_secret, is_admin
FROM predictions
JOIN (SELECT id AS account, webhook_secret, is_admin FROM users WHERE deleted_at IS NULL) AS users
  ON account = owner
CROSS JOIN LATERAL (SELECT {rows.IS_SMALL} AS is_small OFFSET 0) AS size
WHERE id = ANY (:ids)
""")  # noqa: S608 - constants of ours
_LARGE = text(rows.if_room("id = :id"))


class WebhookRow(Row):
    is_small: bool
    webhook_secret: str
    """Of its owner, as is the next."""
    is_admin: bool


class NoRoom(Exception):
    """Too many bytes are in flight: this row must wait."""


class ContentReader:
    """Thread-safe. An owner may have at most as many bytes in flight as it leaves free; owners with
    slow receivers together get half of the space."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._one_by_one = threading.Lock()
        self._line: set[UUID] = set()
        """Owners of large rows that are being read or wait to be read."""
        self._paused: dict[UUID, float] = {}
        """Owners without space → until when they pause, by the monotonic clock."""
        self._held = Counter[UUID]()
        """Bytes in flight by owner."""

    def together(self, ids: Collection[UUID]) -> dict[UUID, WebhookRow]:
        """Rows by id, with `webhook_secret`, `is_admin` and `is_small`; large rows have no input,
        output and logs. Rows of deleted accounts are missing."""
        with self._engine.connect() as connection:
            found = connection.execute(_TOGETHER, {"ids": list(ids)})
            return {row.id: cast("WebhookRow", row._asdict()) for row in found}

    def enter(self, owner: UUID) -> bool:
        """Whether the owner gets a place in the line for `large`, which must then be called."""
        with self._lock:
            now = time.monotonic()
            self._paused = {one: until for one, until in self._paused.items() if until > now}
            if owner in self._line or owner in self._paused or len(self._line) >= _LINE:
                return False
            self._line.add(owner)
            return True

    def large(self, row: WebhookRow, slow: Iterable[UUID] = ()) -> tuple[WebhookRow, int]:
        """The complete row, and the bytes to release with `give`.

        Args:
            slow: owners with slow receivers.

        Raises:
            NoRoom
        """
        owner = row["owner"]
        try:
            with self._one_by_one, self._engine.connect() as connection:
                room = self._room(owner, slow)
                read = connection.execute(_LARGE, {"id": row["id"], "room": room})
                found = cast("rows.SizedRow", read.one()._asdict())
                size = found["bytes"]
                if size <= room:
                    rows.let_go(connection, size)
                    with self._lock:
                        self._held[owner] += size
        finally:
            with self._lock:
                self._line.discard(owner)
        if size <= room:
            return cast("WebhookRow", {**row, **rows.passed_on(found)}), size
        if size <= _LARGEST:
            with self._lock:
                self._paused[owner] = time.monotonic() + _PAUSE_SECONDS
            raise NoRoom
        reason = f"it is larger than {_LARGEST} bytes, the most that a webhook may hold"
        return without_content(cast("WebhookRow", {**row, **found}), reason), 0

    def give(self, owner: UUID, size: int) -> None:
        """Release bytes after the row was sent."""
        with self._lock:
            self._held[owner] -= size
            if not self._held[owner]:
                del self._held[owner]

    def _room(self, owner: UUID, slow: Iterable[UUID]) -> int:
        with self._lock:
            room = (_MOST_BYTES - self._held.total() - self._held[owner]) // 2
            if owner in (slow := set(slow)):
                room = min(room, _LARGEST - sum(self._held[one] for one in slow))
            return max(room, 0)
