"""Receivers of webhooks with moods: the path of a URL says which."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cases import End
from ledger import Delivery, Ledger

MOODS = ("fine", "fine", "fine", "slow", "grumpy", "busy", "endless", "away", "gone")
"""`grumpy` and `busy` refuse the first time, `endless` answers 200 and does not stop, `away` sends
the first time to nowhere, `gone` never wants to hear again."""
_REFUSALS: dict[str, tuple[Any, ...]] = {
    "grumpy": (500,),
    "busy": (429, ("Retry-After", "1")),
    "away": (302, ("Location", "http://127.0.0.1:9/nowhere")),
}
_SLOW_SECONDS = 0.7


class _Handler(BaseHTTPRequestHandler):
    receivers: Receivers

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        webhook_id = self.headers["webhook-id"]
        is_first = self.receivers.is_first(webhook_id)
        mood = self.path.rpartition("/")[2]
        if mood == "gone":
            self._answer(410)
        elif is_first and mood in _REFUSALS:
            self._answer(*_REFUSALS[mood])
        else:
            if mood == "slow":
                time.sleep(_SLOW_SECONDS)
            self.receivers.note(webhook_id, json.loads(body))
            if mood == "endless":
                self._answer_without_end()
            else:
                self._answer(200)

    def _answer(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer_without_end(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"x" * 10_000)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class Receivers:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def is_first(self, webhook_id: str) -> bool:
        with self._lock:
            known = webhook_id in self._seen
            self._seen.add(webhook_id)
            return not known

    def note(self, webhook_id: str, body: dict[str, Any]) -> None:
        if body["completed_at"] is not None:
            end = End(body["status"], body["output"], body["error_code"])
            self._ledger.deliver(Delivery(webhook_id, body["id"], end))


@contextmanager
def receiving(ledger: Ledger) -> Iterator[str]:
    """The URL that a mood is appended to."""
    handler = type("Handler", (_Handler,), {"receivers": Receivers(ledger)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
