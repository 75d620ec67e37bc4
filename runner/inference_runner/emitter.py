"""What the runner says: events, and the commands that carry them to Redis.

Nothing is forgotten before Redis has accepted it. Everything goes in one call, which Redis carries
out as a whole: the prediction's own stream, the model's stream, and only then the removal of the
job. What is too much for one call goes in several, in this order, and is all said again if one of
them is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import orjson

from inference_contract import functions, queues, values
from inference_contract.predictions import ErrorCode, Event, EventType, StreamEvent
from inference_runner.claim import Command, Keys
from inference_runner.runs import Outcome, Run, failed

log = logging.getLogger(__name__)

MAX_OUTPUT_BYTES = 10_000_000
MAX_ENTRY_BYTES = 1_000_000
"""Of one stream entry, unless a single event is larger."""
STREAM_TTL_SECONDS = 600
MAX_SAY_BYTES = 16_000_000
"""Of one call, unless a single command is larger: the server's Redis takes no more than twice that
at once."""


def event(type: EventType, run: Run) -> Event:
    """An event with its fence and the time that the run took until now."""
    return {
        "type": type.value,
        "id": run.job["id"],
        "attempt": run.job["attempt"],
        "token": run.job["token"],
        "predict_time": round(run.elapsed(), 6),
    }


def encode_end(run: Run, outcome: Outcome) -> tuple[bytes, Outcome]:
    """The terminal event as JSON, and the outcome that it tells: an output that is not JSON or is
    too large turns a success into a failure."""
    try:
        encoded = encode(_end(run, outcome), outcome.output)
    except (TypeError, values.Unacceptable) as error:
        outcome = failed(refusal(error), ErrorCode.OUTPUT)
        return orjson.dumps(_end(run, outcome)), outcome
    if len(encoded) > MAX_OUTPUT_BYTES:
        message = f"The output is larger than {MAX_OUTPUT_BYTES} bytes: {len(encoded)} bytes."
        outcome = failed(message, ErrorCode.TOO_LARGE)
        encoded = orjson.dumps(_end(run, outcome))
    return encoded, outcome


def encode(said: Any, output: Any) -> bytes:
    """JSON of something that holds this output.

    Raises:
        TypeError: if the output is not JSON.
        values.Unacceptable: if it is no value of the contract.
    """
    encoded = orjson.dumps(said)
    if not values.is_plain(encoded):
        values.check(orjson.loads(orjson.dumps(output)))
    # What is no number is written as null.
    if b"null" in encoded:
        for number in values.numbers(output):
            values.check(number)
    return encoded


def refusal(error: TypeError | values.Unacceptable) -> str:
    """What a model's author is told of an output that `encode` refuses."""
    if isinstance(error, values.Unacceptable):
        return f"The output {error}."
    return f"The output is not JSON: {error}"


def _end(run: Run, outcome: Outcome) -> Event:
    said = event(outcome.type, run)
    if outcome.output is not None or outcome.type is EventType.SUCCEEDED:
        said["output"] = outcome.output
    if outcome.error is not None:
        said["error"] = values.text(outcome.error)
    if outcome.error_code is not None:
        said["error_code"] = outcome.error_code.value
    if outcome.logs:
        said["logs"] = values.text(outcome.logs)
    if outcome.metrics:
        said["metrics"] = outcome.metrics
    if run.sequence:
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
    """SAY with these commands: as many of them as one call may have."""
    made: list[Command] = []
    words: list[Any] = []
    size = 0
    for command in commands:
        more = sum(len(word) for word in command if isinstance(word, bytes))
        is_full = len(words) + len(command) >= functions.MAX_WORDS or size + more > MAX_SAY_BYTES
        if words and is_full:
            made.append(("FCALL", functions.SAY, 0, *words))
            words, size = [], 0
        words += [len(command), *command]
        size += more
    if words:
        made.append(("FCALL", functions.SAY, 0, *words))
    return made


class Emitter:
    """Gathers what is to be said; `started` and `heartbeat` come from the pulse (leases.py).

    `lock` keeps a `started` from following its own end.
    """

    def __init__(self, keys: Keys) -> None:
        self.lock = threading.Lock()
        self._keys = keys
        self._streams: list[Command] = []
        self._events: list[bytes] = []
        self._done: list[Run] = []

    def output(self, run: Run, **fields: Any) -> None:
        """For the webhook: everything so far, in the model's stream."""
        self._events.append(orjson.dumps({**event(EventType.OUTPUT, run), **fields}))

    def stream(self, run: Run, said: StreamEvent) -> None:
        """An entry of the prediction's own stream."""
        key = queues.stream_key(self._keys.model, run.id)
        run.sequence += 1
        entry_id = f"{run.attempt}-{run.sequence}"
        self._streams.append(("XADD", key, entry_id, "d", orjson.dumps(said)))
        self._streams.append(("EXPIRE", key, STREAM_TTL_SECONDS))

    def end(self, run: Run, outcome: Outcome) -> Outcome:
        """The last that is said of a run. Returns the outcome as told."""
        with self.lock:
            run.ended = True
        encoded, outcome = encode_end(run, outcome)
        if run.sequence:
            said: StreamEvent = {"type": outcome.type.value}
            if outcome.error is not None:
                said["error"] = values.text(outcome.error)
            self.stream(run, said)
        self._events.append(encoded)
        self._done.append(run)
        return outcome

    @property
    def pending(self) -> bool:
        return bool(self._events or self._streams)

    def commands(self) -> list[Command]:
        """Everything unsaid, in as few calls as can be; empty if there is nothing."""
        if not self.pending:
            return []
        said = [("XADD", self._keys.events, "*", "d", body) for body in entries(self._events)]
        released = self._keys.release(self._done) if self._done else []
        return calls([*self._streams, *said, *released])

    def accepted(self) -> list[Run]:
        """Redis has it: forget it. Returns the runs that are over now."""
        done = self._done
        self._streams, self._events, self._done = [], [], []
        return done
