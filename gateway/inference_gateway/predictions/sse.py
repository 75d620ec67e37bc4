"""Server-sent events of one prediction, for one reader: pure, from stream entries to bytes.

Events are `output`, `logs`, `error` and `done`, each with an id, since Replicate's client drops
events without and refuses other names. An id is `<attempt>-<sequence>`, that of the entry in the
prediction's own stream; attempt 0 stands for what was composed from the record.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from inference_contract.predictions import EventType, PredictionStatus, StreamEvent
from inference_gateway.predictions.schemas import Row
from inference_gateway.predictions.transcript import Diverged, Transcript
from inference_gateway.predictions.waiters import StreamEntry

HEARTBEAT = b": heartbeat\n\n"
_LINE_END = re.compile(r"\r\n|\r|\n")
_ID = re.compile(r"(\d{1,9})-(\d{1,15})")
_START = (0, 0)
_DIVERGED = "the run was repeated and gave another answer; read the prediction for the final output"
_TOO_OLD = "the stream is gone and cannot be resumed; read the prediction for its output"
_REASONS = {PredictionStatus.FAILED: "error", PredictionStatus.CANCELED: "canceled"}

EntryId = tuple[int, int]


def render(name: str, data: str, id: EntryId) -> bytes:
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(data))
    return f"event: {name}\nid: {id[0]}-{id[1]}\n{lines}\n".encode()


def parse_id(text: str | None) -> EntryId | None:
    """None if it is not one of our ids: the reader then begins at the beginning."""
    found = _ID.fullmatch(text or "")
    return (int(found[1]), int(found[2])) if found else None


class StreamReader:
    """What one reader gets: `feed` it the entries in order, then, if it is not done, the row."""

    def __init__(self, last_event_id: EntryId | None) -> None:
        self._transcript = Transcript()
        self._resume_after = last_event_id or _START
        self._found = last_event_id is None or last_event_id[0] == 0
        self._position = _START
        self.is_done = False

    @property
    def position(self) -> str:
        """Id of the last entry that was fed."""
        return f"{self._position[0]}-{self._position[1]}"

    def feed(self, entry: StreamEntry) -> bytes:
        """The events that an entry makes for this reader; nothing if it was fed before."""
        attempt, _, sequence = entry.id.partition(b"-")
        entry_id = (int(attempt), int(sequence))
        if self.is_done or entry_id <= self._position:
            return b""
        if entry_id[0] > self._position[0] > 0:
            self._transcript.repeat()
        self._position = entry_id
        self._found = self._found or entry_id == self._resume_after
        event: StreamEvent = orjson.loads(entry.data)
        try:
            return self._events(event, entry_id)
        except Diverged:
            return self._stop(_DIVERGED)

    def caught_up(self) -> bytes:
        """To be called when all that the stream held was fed: whether this reader can go on."""
        return b"" if self._found else self._stop(_TOO_OLD)

    def finish(self, row: Row) -> bytes:
        """What is missing once the prediction has ended, of a stream without an end of its own."""
        if self.is_done:
            return b""
        composed = self._position == _START
        events: list[tuple[str, str]] = []
        try:
            missing = [] if row["output"] is None else self._transcript.complete(row["output"])
        except Diverged:
            if row["status"] == PredictionStatus.SUCCEEDED:
                return self._stop(_DIVERGED)
            missing = []
        events += [("output", _text(piece)) for piece in missing]
        events += _end(row["status"], row["error"])
        self.is_done = True
        # Composed events have numbers of their own, so that these can be resumed too.
        ids = [(0, n) if composed else self._position for n in range(1, len(events) + 1)]
        return b"".join(
            render(name, data, event_id)
            for (name, data), event_id in zip(events, ids, strict=True)
            if not composed or event_id > self._resume_after or name == "done"
        )

    def _events(self, event: StreamEvent, id: EntryId) -> bytes:
        is_new = id > self._resume_after
        if event["type"] == EventType.OUTPUT:
            pieces = self._transcript.add(event["output"])
            return b"".join(render("output", _text(p), id) for p in pieces) if is_new else b""
        if event["type"] == EventType.LOGS:
            return render("logs", event["logs"], id) if is_new else b""
        if not EventType(event["type"]).is_terminal:
            return b""
        if self._transcript.is_behind and event["type"] == EventType.SUCCEEDED:
            raise Diverged
        self.is_done = True
        end = _end(event["type"], event.get("error"))
        return b"".join(render(name, data, id) for name, data in (end if is_new else end[-1:]))

    def _stop(self, detail: str) -> bytes:
        self.is_done = True
        return render("error", _json({"detail": detail}), self._position) + render(
            "done", _json({"reason": "error"}), self._position
        )


def _end(status: str, error: str | None) -> list[tuple[str, str]]:
    reason = _REASONS.get(PredictionStatus(status))
    events = [("done", _json({"reason": reason} if reason else {}))]
    if reason == "error":
        events.insert(0, ("error", _json({"detail": error or "the prediction failed"})))
    return events


def _text(piece: Any) -> str:
    return piece if isinstance(piece, str) else _json(piece)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
