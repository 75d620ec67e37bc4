"""Clients that create predictions in every way, and record the answers."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from typing import Any

import httpx
from event_stream import events

from cases import Case, End, draw, text
from ledger import Call, Claim, Ledger
from receivers import MOODS
from world import World

THREADS = 8
PATIENCE_SECONDS = 120
"""Seconds for which a client retries while it gets no answer."""
_PAUSE = 0.1
_TERMINAL = {"succeeded", "failed", "canceled"}
_CUT = 0.15
"""How often a reader of a stream disconnects and reconnects."""


class Callers:
    """Threads that each take the next prediction of the campaign.

    Args:
        hooks: URL of the receivers.
    """

    def __init__(self, world: World, ledger: Ledger, seed: str, hooks: str) -> None:
        self._world = world
        self._ledger = ledger
        self._seed = seed
        self._hooks = hooks
        self._numbers: queue.Queue[int | None] = queue.Queue()
        self._next = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def allow(self, count: int) -> None:
        """Let so many more predictions begin."""
        for number in range(self._next, self._next + count):
            self._numbers.put(number)
        self._next += count

    def finish(self) -> None:
        """Wait until all allowed predictions have ended."""
        for _ in self._threads:
            self._numbers.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._world.url, headers=self._world.headers) as client:
            while (number := self._numbers.get()) is not None:
                chance = random.Random(f"{self._seed} {number}")
                try:
                    Caller(self._world, client, self._ledger, chance, self._hooks).call(number)
                except GaveUp as error:
                    self._ledger.complain(str(error))
                except Exception as error:  # A fault of the campaign itself is one too.
                    self._ledger.complain(f"caller {number}: {error!r}")


class GaveUp(Exception):
    """No answer within PATIENCE_SECONDS."""


class Caller:
    def __init__(
        self, world: World, client: httpx.Client, ledger: Ledger, chance: random.Random, hooks: str
    ) -> None:
        self._world = world
        self._client = client
        self._ledger = ledger
        self._chance = chance
        self._hooks = hooks

    def call(self, number: int) -> None:
        case = draw(self._chance)
        said = text(number, self._chance)
        careful = self._chance.random() < 0.7
        key = f"key-{number}" if careful else None
        mood = self._chance.choice(MOODS) if self._chance.random() < 0.25 else None
        call = Call(number, case.name, said, key, mood)
        self._ledger.call(call)
        waits = self._chance.random() < 0.4
        made = self._create(call, case, wait=10 if waits else 0)
        if made is None:
            return
        prediction = made["id"]
        self._note(prediction, "wait", made)
        if self._chance.random() < 0.1:
            self._again(call, case)
        if self._chance.random() < 0.1:
            time.sleep(self._chance.random() * 0.3)
            self._cancel(call, prediction)
        if case.model == "story" or self._chance.random() < 0.15:
            self._follow(prediction)
        self._poll(prediction)

    def _body(self, call: Call, case: Case) -> dict[str, Any]:
        body: dict[str, Any] = {"model_id": self._world.model(case.model)}
        body["input"] = case.input(call.text)
        if call.webhook is not None:
            body["webhook"] = f"{self._hooks}/{call.webhook}"
        return body

    def _create(self, call: Call, case: Case, wait: int) -> dict[str, Any] | None:
        """The answer; None if the client does not ask again."""
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        if case.cancel_after:
            headers["Cancel-After"] = case.cancel_after
        if call.key:
            headers["Idempotency-Key"] = call.key
        body = self._body(call, case)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            reply = self._send("POST", "/v1/predictions", json=body, headers=headers)
            if reply is not None and reply.is_success:
                call.accepted.add(reply.json()["id"])
                return dict(reply.json())
            if reply is not None and reply.status_code not in {429, 503}:
                self._ledger.complain(f"create ({case.name}): {reply.status_code} {reply.text}")
                return None
            if call.key is None:
                self._ledger.count("not accepted, not sent again")
                call.nothing_stored = reply is not None and "nothing was stored" in reply.text
                return None
            time.sleep(_PAUSE)
        raise GaveUp(f"{call.case} {call.number} was not accepted in {PATIENCE_SECONDS} s")

    def _again(self, call: Call, case: Case) -> None:
        """The same request under the same key, then another."""
        if call.key is None:
            return
        self._create(call, case, wait=0)
        body = self._body(call, case)
        body["input"]["text"] += " and more"
        headers = {"Idempotency-Key": call.key}
        if case.cancel_after:
            headers["Cancel-After"] = case.cancel_after
        reply = self._send("POST", "/v1/predictions", json=body, headers=headers)
        if reply is not None and reply.status_code not in {422, 429, 503}:
            self._ledger.complain(f"another request under {call.key}: {reply.status_code}")

    def _cancel(self, call: Call, prediction: str) -> None:
        call.cancels = True
        reply = self._insist("POST", f"/v1/predictions/{prediction}/cancel")
        self._note(prediction, "cancel", reply)

    def _poll(self, prediction: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            found = self._insist("GET", f"/v1/predictions/{prediction}")
            if self._note(prediction, "get", found):
                return
            time.sleep(0.2)
        raise GaveUp(f"{prediction} has not ended after {PATIENCE_SECONDS} s")

    def _note(self, prediction: str, source: str, found: dict[str, Any]) -> bool:
        """Keep what an answer says, if it says that the prediction has ended."""
        if found["status"] not in _TERMINAL:
            return False
        end = End(found["status"], found["output"], found["error_code"])
        self._ledger.claim(Claim(prediction, source, end))
        if source != "get":
            # What was told is there at once, for everybody.
            reply = self._send("GET", f"/v1/predictions/{prediction}")
            if reply is not None and reply.is_success and reply.json()["status"] != end.status:
                now = reply.json()["status"]
                self._ledger.complain(f"{prediction}: {source} {end.status}, then GET says {now}")
        return True

    def _follow(self, prediction: str) -> None:
        """Read its stream to the end, with interruptions."""
        output: list[str] = []
        last_id: str | None = None
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            headers = {"Accept": "text/event-stream"}
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
            path = f"/v1/predictions/{prediction}/stream"
            try:
                with self._client.stream("GET", path, headers=headers, timeout=30) as reply:
                    if reply.status_code != 200:
                        time.sleep(_PAUSE)
                        continue
                    for event in events(reply):
                        if event.event == "output":
                            output.append(event.data)
                        if event.event == "done":
                            return self._done(prediction, event.json(), output)
                        last_id = event.id
                        if time.monotonic() > end or self._chance.random() < _CUT:
                            break
            except httpx.TransportError:
                time.sleep(_PAUSE)
        raise GaveUp(f"the stream of {prediction} did not end in {PATIENCE_SECONDS} s")

    def _done(self, prediction: str, data: dict[str, Any], output: list[str]) -> None:
        reason = data.get("reason")
        self._ledger.count(f"streams that ended with {reason or 'success'}")
        if reason == "error":
            return  # The prediction's, or the stream's own: it claims nothing.
        status = "canceled" if reason == "canceled" else "succeeded"
        found = self._insist("GET", f"/v1/predictions/{prediction}")
        self._ledger.claim(Claim(prediction, "stream", End(status), compares="status"))
        if found["status"] != status:
            now = found["status"]
            self._ledger.complain(f"{prediction}: its stream said {status}, then GET says {now}")
        whole = found["output"]
        expected = whole if isinstance(whole, list) else [] if whole is None else [whole]
        if status == "succeeded" and output != [_text(piece) for piece in expected]:
            self._ledger.complain(f"{prediction}: streamed {output}, stored {expected}"[:400])

    def _insist(self, method: str, path: str) -> dict[str, Any]:
        """Ask until there is an answer below 500."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            reply = self._send(method, path)
            if reply is not None and reply.is_success:
                return dict(reply.json())
            if reply is not None and reply.status_code not in {429, 503}:
                self._ledger.complain(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
                raise GaveUp(f"{method} {path} was refused")
            time.sleep(_PAUSE)
        raise GaveUp(f"{method} {path} was not answered in {PATIENCE_SECONDS} s")

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """None if the connection broke."""
        try:
            reply = self._client.request(method, path, timeout=30, **options)
        except httpx.TransportError:
            self._ledger.count("connections that broke")
            return None
        self._ledger.count(f"answers {reply.status_code}")
        if reply.status_code >= 400 and "problem+json" not in reply.headers["content-type"]:
            self._ledger.complain(f"{method} {path}: {reply.status_code} is no problem+json")
        return reply


def _text(piece: Any) -> str:
    return piece if isinstance(piece, str) else json.dumps(piece, separators=(",", ":"))
