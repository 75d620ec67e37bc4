"""What a webhook tells: its prediction's row. Small rows are read together, large ones one after
another, as bytes, and no more of them than there is room for until they are sent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import Engine, text

from inference_gateway.lifecycle import rows
from inference_gateway.lifecycle.wire import Row, without_content
from inference_gateway.postgres.tables import BRIEF, LARGE

_MOST_BYTES = 64_000_000
"""Of the content of large rows, until they are sent: a slow receiver keeps what is sent to it in
memory for as long as an attempt may take."""
_LARGEST = _MOST_BYTES // 2
_LINE = 4
"""Large rows that wait to be read: the last of them must be sent before its claim ends."""
_PAUSE_SECONDS = 1.0
"""After an owner had no room. To learn how large a row is takes PostgreSQL a tenth of a second."""

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


class NoRoom(Exception):
    """So much is under way that this row must wait."""


class ContentReader:
    """Safe to use from several threads. Nobody may have more under way than they leave free, and
    those whose receivers are slow have half of it together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._one_by_one = threading.Lock()
        self._line: set[UUID] = set()
        """Owners of large rows that are being read, or wait for that."""
        self._paused: dict[UUID, float] = {}
        """Owners who had no room → until when, by the monotonic clock."""
        self._held = Counter[UUID]()
        """Bytes under way, by owner."""

    def together(self, ids: Collection[UUID]) -> dict[UUID, Row]:
        """Rows by id, with `webhook_secret`, `is_admin` and `is_small`; what is not small has no
        input, output and logs. Rows of accounts that are gone are not there."""
        with self._engine.connect() as connection:
            found = connection.execute(_TOGETHER, {"ids": list(ids)})
            return {row.id: row._asdict() for row in found}

    def enter(self, owner: UUID) -> bool:
        """Whether the owner has now a place in the line for `large`, which they must then call."""
        with self._lock:
            now = time.monotonic()
            self._paused = {one: until for one, until in self._paused.items() if until > now}
            if owner in self._line or owner in self._paused or len(self._line) >= _LINE:
                return False
            self._line.add(owner)
            return True

    def large(self, row: Row, slow: Iterable[UUID] = ()) -> tuple[Row, int]:
        """The row with all that it holds, and the bytes to give back with `give`.

        Args:
            slow: owners whose receivers have kept us waiting.

        Raises:
            NoRoom
        """
        owner: UUID = row["owner"]
        try:
            with self._one_by_one, self._engine.connect() as connection:
                room = self._room(owner, slow)
                read = connection.execute(_LARGE, {"id": row["id"], "room": room})
                found = read.one()._asdict()
                size: int = found["bytes"]
                if size <= room:
                    rows.let_go(connection, size)
                    with self._lock:
                        self._held[owner] += size
        finally:
            with self._lock:
                self._line.discard(owner)
        if size <= room:
            return {**row, **rows.passed_on(found)}, size
        if size <= _LARGEST:
            with self._lock:
                self._paused[owner] = time.monotonic() + _PAUSE_SECONDS
            raise NoRoom
        reason = f"it is larger than {_LARGEST} bytes, the most that a webhook may hold"
        return without_content({**row, **found}, reason), 0

    def give(self, owner: UUID, size: int) -> None:
        """What is sent is no longer under way."""
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
