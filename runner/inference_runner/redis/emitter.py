"""Collects events and builds the commands that write them to Redis.

Events are kept until Redis has accepted them. They are sent in one call, which Redis executes
atomically: the prediction's own stream, the model's stream, and only then the removal of the job.
Larger amounts are split into several calls in this order, and all are repeated if one is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import orjson

from inference_contract import functions, queues, values
from inference_contract.predictions import ErrorCode, Event, EventType, StreamEvent
from inference_runner import outputs
from inference_runner.redis.claim import ClaimKeys, Command
from inference_runner.runs import Outcome, Run, failed

log = logging.getLogger(__name__)

MAX_OUTPUT_BYTES = 10_000_000
MAX_ENTRY_BYTES = 1_000_000
"""Bytes of one stream entry, unless a single event is larger."""
STREAM_TTL_SECONDS = 600
MAX_SAY_BYTES = 16_000_000
"""Bytes of one call, unless a single command is larger: Redis accepts at most twice that at
once."""


def event(type: EventType, run: Run) -> Event:
    """An event with the fence's fields and the time since the run's start."""
    return {
        "type": type.value,
        "id": run.job["id"],
        "attempt": run.job["attempt"],
        "token": run.job["token"],
        "predict_time": round(run.elapsed(), 6),
    }


def encode_end(run: Run, outcome: Outcome) -> tuple[bytes, Outcome]:
    """The terminal event as JSON, and its outcome: an output that cannot be encoded or is too large
    turns a success into a failure."""
    try:
        encoded = outputs.encode(_end(run, outcome), outcome.output)
    except (TypeError, values.Unacceptable) as error:
        outcome = failed(outputs.refusal(error, outcome.output), ErrorCode.OUTPUT)
        return orjson.dumps(_end(run, outcome)), outcome
    if len(encoded) > MAX_OUTPUT_BYTES:
        message = f"The output is larger than {MAX_OUTPUT_BYTES} bytes: {len(encoded)} bytes."
        outcome = failed(message, ErrorCode.TOO_LARGE)
        encoded = orjson.dumps(_end(run, outcome))
    return encoded, outcome


def _end(run: Run, outcome: Outcome) -> Event:
    said = event(outcome.type, run)
    if outcome.output is not None or outcome.type is EventType.SUCCEEDED:
        said["output"] = outcome.output
    if outcome.error is not None:
        said["error"] = values.text(outcome.error)
    if outcome.error_code is not None:
        said["error_code"] = outcome.error_code.value
    if run.prints is not None:
        said["logs"] = values.text(run.logs)
    if outcome.metrics:
        said["metrics"] = outcome.metrics
    if outcome.suspect:
        said["suspect"] = True
    if run.growing is not None and run.sequence:
        said["streamed"] = True
    return said


def entries(events: Sequence[bytes], limit: int = MAX_ENTRY_BYTES) -> list[bytes]:
    """JSON arrays of these events, as few as stay below `limit` bytes each."""
    arrays: list[bytes] = []
    chunk: list[bytes] = []
    size = 0
    for encoded in events:
        if chunk and size + len(encoded) > limit:
            arrays.append(b"[" + b",".join(chunk) + b"]")
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded) + 1
    if chunk:
        arrays.append(b"[" + b",".join(chunk) + b"]")
    return arrays


def calls(commands: Sequence[Command]) -> list[Command]:
    """Calls of the function SEND with these commands, each as large as allowed."""
    made: list[Command] = []
    words: list[Any] = []
    size = 0
    for command in commands:
        more = sum(len(word) for word in command if isinstance(word, bytes))
        is_full = len(words) + len(command) >= functions.MAX_WORDS or size + more > MAX_SAY_BYTES
        if words and is_full:
            made.append(("FCALL", functions.SEND, 0, *words))
            words, size = [], 0
        words += [len(command), *command]
        size += more
    if words:
        made.append(("FCALL", functions.SEND, 0, *words))
    return made


class Emitter:
    """Collects events to send. The heartbeat thread adds `started` and `heartbeat`.

    The loop sends them; while the model's code runs, the heartbeat and watchdog threads do. `lock`
    prevents a `started` after the end, and two ends of a run. Only the thread that holds `sending`
    may take events, so that the entries of a stream keep their order.
    """

    def __init__(self, keys: ClaimKeys) -> None:
        self.lock = threading.RLock()
        self.sending = threading.Lock()
        self._keys = keys
        self._streams: list[Command] = []
        self._events: list[bytes] = []
        self._done: list[Run] = []
        self._taken: tuple[list[Command], list[bytes], list[Run]] = ([], [], [])

    def output(self, run: Run, **fields: Any) -> None:
        """For the webhook: everything so far, in the model's stream."""
        with self.lock:
            if not run.ended:
                self._events.append(orjson.dumps({**event(EventType.OUTPUT, run), **fields}))

    def logs(self, run: Run, *, all_too: bool) -> None:
        """Add new log text to the run's stream; with `all_too` also all of it, for the row."""
        with self.lock:
            if run.ended or run.prints is None:
                return
            if news := run.prints.news():
                self.stream(run, {"type": EventType.LOGS.value, "logs": values.text(news)})
            if all_too:
                said: Event = {**event(EventType.LOGS, run), "logs": values.text(run.logs)}
                self._events.append(orjson.dumps(said))

    def stream(self, run: Run, said: StreamEvent) -> None:
        """An entry of the prediction's own stream."""
        with self.lock:
            self._stream(run, said)

    def _stream(self, run: Run, said: StreamEvent) -> None:
        key = queues.stream_key(self._keys.model, run.id)
        run.sequence += 1
        entry_id = f"{run.attempt}-{run.sequence}"
        self._streams.append(("XADD", key, entry_id, "d", orjson.dumps(said)))
        self._streams.append(("EXPIRE", key, STREAM_TTL_SECONDS))

    def end(self, run: Run, outcome: Outcome) -> Outcome | None:
        """Add the terminal event of a run. Returns its outcome; None if the run had ended
        before."""
        with self.lock:
            if run.ended:
                return None
            run.ended = True
        encoded, outcome = encode_end(run, outcome)
        with self.lock:
            if run.sequence and run.prints is not None and (news := run.prints.news()):
                self._stream(run, {"type": EventType.LOGS.value, "logs": values.text(news)})
            if run.growing is not None and run.sequence and outcome.type.is_terminal:
                said: StreamEvent = {"type": outcome.type.value}
                if outcome.error is not None:
                    said["error"] = values.text(outcome.error)
                self._stream(run, said)
            self._events.append(encoded)
            self._done.append(run)
        return outcome

    @property
    def pending(self) -> bool:
        return bool(self._events or self._streams or self._taken[0] or self._taken[1])

    def commands(self) -> list[Command]:
        """Everything unsaid, in as few calls as can be; nothing if there is none. For who is
        `sending`."""
        if not self.pending:
            return []
        with self.lock:
            streams, events, done = self._taken
            streams, events = streams + self._streams, events + self._events
            self._taken = streams, events, done = streams, events, done + self._done
            self._streams, self._events, self._done = [], [], []
        said = [("XADD", self._keys.events, "*", "d", body) for body in entries(events)]
        released = self._keys.release(done) if done else []
        return calls([*streams, *said, *released])

    def accepted(self) -> list[Run]:
        """Redis has accepted `commands`: drop them. Returns the runs that have now ended."""
        done = self._taken[2]
        self._taken = ([], [], [])
        return done
