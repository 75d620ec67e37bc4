"""An API server with the requests that the operator needs, over real HTTP, and with faults.

A list has the objects under its path, and an apply merges.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from inference_operator.cluster.api.kinds import Kind

Manifest = dict[str, Any]
_PLURALS = {kind.value[1] for kind in Kind}


@dataclass
class StubApi:
    """Its objects and its behaviour; may be changed while it serves."""

    objects: dict[str, Manifest] = field(default_factory=dict)
    """Objects by path."""
    refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """Method and the last part of a path, or the one before a name → HTTP status and message."""
    silent: int = 0
    """So many of the next requests get no answer and change nothing."""
    is_slow: bool = False
    """Whether answers are sent byte by byte, without end."""
    requests: list[str] = field(default_factory=list)
    """Method and path."""
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: count(100))

    def put(self, path: str, found: Manifest) -> Manifest:
        """Store the object with a new resourceVersion; returns it."""
        before = self.objects.get(path, {"metadata": {"uid": f"uid-{next(self._numbers)}"}})
        metadata = {"uid": before["metadata"]["uid"], **found.get("metadata", {})}
        metadata["resourceVersion"] = str(next(self._numbers))
        self.objects[path] = {**found, "metadata": metadata}
        return self.objects[path]

    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET ")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: StubApi

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_GET

    def _serve(self) -> None:
        api, path = self.api, urlsplit(self.path).path
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        api.requests.append(f"{self.command} {path}")
        if api.silent:
            api.silent -= 1
            api.closing.wait()
            self.close_connection = True
            return
        status, answer = self._answer(path, json.loads(sent or "{}"))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(10**6 if api.is_slow else len(content)))
        self.end_headers()
        with suppress(OSError):  # The client has gone.
            while api.is_slow and not api.closing.is_set():
                self.wfile.write(b" ")
                time.sleep(0.02)
            self.wfile.write(content)

    def _answer(self, path: str, sent: Manifest) -> tuple[int, Manifest]:
        api = self.api
        for part in path.split("/")[-2:]:
            if (refusal := api.refusals.get((self.command, part))) is not None:
                return _status(*refusal)
        if self.command == "GET":
            return self._get(path)
        if self.command == "POST":
            return 201, api.put(f"{path}/{sent['metadata']['name']}", sent)
        whole, part = path, ""
        for subresource in ("status", "scale"):
            if path.endswith(f"/{subresource}"):
                whole, part = path.removesuffix(f"/{subresource}"), subresource
        there = api.objects.get(whole)
        if there is None and (part or self.command == "PUT"):
            return _status(404, "not found")
        version = sent.get("metadata", {}).get("resourceVersion")
        if there is not None and version not in (None, there["metadata"]["resourceVersion"]):
            return _status(409, "the object has been modified")
        return 200, api.put(whole, _merged(there or {}, sent))

    def _get(self, path: str) -> tuple[int, Manifest]:
        if path in self.api.objects:
            return 200, self.api.objects[path]
        if path.rpartition("/")[2] in _PLURALS:
            of = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}}
            items = [o for at, o in self.api.objects.items() if at.rpartition("/")[0] == path]
            return 200, {**of, "items": items}
        return _status(404, "not found")


def _status(code: int, message: str) -> tuple[int, Manifest]:
    return code, {"kind": "Status", "code": code, "message": message}


def _merged(there: Manifest, sent: Manifest) -> Manifest:
    merged = {**there, **sent}
    for key in there.keys() & sent.keys():
        if isinstance(there[key], dict) and isinstance(sent[key], dict):
            merged[key] = _merged(there[key], sent[key])
    return merged


@contextmanager
def serve() -> Iterator[StubApi]:
    """On this machine, on a free port."""
    api = StubApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield api
    finally:
        api.closing.set()
        server.shutdown()
        server.server_close()
