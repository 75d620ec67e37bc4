"""Server-sent events of one prediction for one reader: pure, from stream entries to bytes.

Events are `output`, `logs`, `error` and `done`, each with an id: Replicate's client drops events
without id and refuses other names. An id encodes how much of the output, and of the logs of which
attempt, the reader has. A reader that reconnects with it gets the rest, from the prediction's own
stream or from its row, or an error if the output is another one. The end comes only from the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from inference_contract.predictions import EventType, PredictionStatus, StreamEvent
from inference_gateway.lifecycle.prediction import Row
from inference_gateway.postgres import stored
from inference_gateway.predictions.streaming.transcript import Diverged, Mark, Transcript
from inference_gateway.predictions.waiting.waiters import StreamEntry

HEARTBEAT = b": heartbeat\n\n"
_NUMBER = "([0-9a-f]{1,12})"
_ID = re.compile(rf"{_NUMBER}(?:-{_NUMBER}){{8}}")
_DIVERGED = "the run was repeated and gave another answer; read the prediction for the final output"
_MANY = "the output has too many values to be sent in events; read the prediction for it"
_SLICE = 8192
"""Characters: escaping the line ends of 30 MB takes a second, and holds the GIL."""
_REASONS = {PredictionStatus.FAILED: "error", PredictionStatus.CANCELED: "canceled"}


class Position(NamedTuple):
    """How far a reader has got."""

    attempt: int = 0
    """The attempt of the logs that it has."""
    output: Mark = Mark()
    logs: Mark = Mark()

    def __str__(self) -> str:
        return "-".join(f"{number:x}" for number in (self.attempt, *self.output, *self.logs))


def render(name: str, data: str, id: object) -> Iterator[bytes]:
    """An event, in pieces of some ten KiB."""
    if len(data) <= _SLICE:
        yield f"event: {name}\nid: {id}\ndata: {_lines(data)}\n\n".encode()
        return
    yield f"event: {name}\nid: {id}\ndata: ".encode()
    start = 0
    while start < len(data):
        end = start + _SLICE
        if data[end - 1 : end + 1] == "\r\n":
            end += 1
        yield _lines(data[start:end]).encode()
        start = end
    yield b"\n\n"


def _lines(data: str) -> str:
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    return data.replace("\n", "\ndata: ")


def parse_id(text: str | None) -> Position | None:
    """None if it is not one of our ids: the reader then starts at the beginning."""
    if text is None or _ID.fullmatch(text) is None:
        return None
    attempt, *marks = (int(number, 16) for number in text.split("-"))
    return Position(attempt, Mark(*marks[:4]), Mark(*marks[4:]))


class StreamReader:
    """Makes the events for one reader: `feed` it the entries in order, and `finish` it with the
    row.

    Args:
        has: the reader's position.
        attempt: entries of earlier attempts are ignored.
    """

    def __init__(self, has: Position | None = None, attempt: int = 1) -> None:
        self._has = has or Position()
        self._output = Transcript(self._has.output)
        self._logs = Transcript(self._has.logs)
        self._first_attempt = attempt
        self._read = (0, 0)
        self._lacks = False
        """Whether entries of this attempt are missing: later ones are useless until the end."""
        self.is_done = False

    @property
    def position(self) -> str:
        """Id of the last entry that was fed."""
        return f"{self._read[0]}-{self._read[1]}"

    def feed(self, entry: StreamEntry) -> bytes:
        """The events for an entry; empty if it was fed before."""
        first, _, second = entry.id.partition(b"-")
        attempt, sequence = entry_id = int(first), int(second)
        if self.is_done or entry_id <= self._read or attempt < self._first_attempt:
            return b""
        if attempt > self._read[0]:
            self._begin(attempt)
        self._lacks = self._lacks or sequence != self._read[1] + 1
        self._read = entry_id
        if self._lacks:
            return b""
        try:
            return b"".join(self._events(orjson.loads(entry.data)))
        except Diverged:
            return b"".join(self._stop(_DIVERGED))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._lacks = True  # An invalid entry; the row has the truth.
            return b""

    def finish(self, row: Row) -> Iterator[bytes]:
        """The missing events of an ended prediction, and its end; in pieces."""
        if self.is_done:
            return
        if row["attempt"] != self._has.attempt:
            self._take_up(row["attempt"])
        yield from self._log_lines(self._rest_of_logs(row["logs"]))
        try:
            missing = self._rest_of_output(row["output"])
        except Diverged as error:
            if row["status"] == PredictionStatus.SUCCEEDED:
                yield from self._stop(str(error) or _DIVERGED)
                return
            missing = []
        yield from self._outputs(missing)
        for name, data in _end(row["status"], row["error"]):
            yield from self._write(name, data)
        self.is_done = True

    def _begin(self, attempt: int) -> None:
        self._output.repeat()
        self._logs.repeat()
        if attempt != self._has.attempt:
            self._take_up(attempt)
        self._read = (attempt, 0)
        self._lacks = False

    def _take_up(self, attempt: int) -> None:
        """Start with the logs of another attempt."""
        self._has = self._has._replace(attempt=attempt)
        self._logs = Transcript()

    def _events(self, event: StreamEvent) -> Iterable[bytes]:
        if event["type"] == EventType.OUTPUT:
            return self._outputs(self._output.add(event["output"]))
        if event["type"] == EventType.LOGS:
            try:
                pieces = self._logs.add(event["logs"])
            except Diverged:  # The reader has other logs: send the present ones from the start.
                self._logs = Transcript()
                pieces = self._logs.add(event["logs"])
            return self._log_lines(pieces)
        return ()

    def _outputs(self, pieces: list[Any]) -> Iterator[bytes]:
        for piece in pieces:
            self._output.send(piece)
            yield from self._write("output", _text(piece))

    def _log_lines(self, pieces: list[str]) -> Iterator[bytes]:
        for piece in pieces:
            self._logs.send(piece)
            yield from self._write("logs", piece)

    def _rest_of_output(self, output: Any) -> list[Any]:
        if isinstance(output, stored.PassedOn):
            raise Diverged(_MANY)
        if output is not None:
            return self._output.complete(output)
        if self._output.sent.items:
            raise Diverged
        return []

    def _rest_of_logs(self, logs: str) -> list[str]:
        try:
            return self._logs.complete(logs) if logs else []
        except Diverged:
            return []

    def _write(self, name: str, data: str) -> Iterator[bytes]:
        self._has = self._has._replace(output=self._output.sent, logs=self._logs.sent)
        return render(name, data, self._has)

    def _stop(self, detail: str) -> Iterator[bytes]:
        self.is_done = True
        yield from self._write("error", _json({"detail": detail}))
        yield from self._write("done", _json({"reason": "error"}))


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
