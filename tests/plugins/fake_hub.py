"""A server with the routes of the Hugging Face Hub that huggingface_hub needs, and with faults."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

_PIECE = 64 * 1024


@dataclass
class Hub:
    """Its content and its behaviour; may be changed while it serves."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Tag → commit."""
    rate: float = 0.0
    """Bytes a second of each file; 0: no limit."""
    cuts: dict[str, int] = field(default_factory=dict)
    """File → after how many of its bytes the connection breaks, once."""
    answer: tuple[int, str] | None = None
    """HTTP status and X-Error-Code of every answer; None: the right one."""
    gated: set[str] = field(default_factory=set)
    """Repositories whose files need `token`."""
    token: str = ""
    requests: list[str] = field(default_factory=list)
    """Method, path, and the range if one was asked for."""
    url: str = ""

    def add(self, repo: str, files: dict[str, bytes] | Path) -> str:
        """Add a new newest commit; returns its name."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        self.repos[repo] = files
        return self.commit(repo)

    def commit(self, repo: str) -> str:
        return _sha(b"".join(name.encode() + body for name, body in self.repos[repo].items()))


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range", "")
        hub.requests.append(f"{self.command} {path} {asked}".strip())
        if hub.answer is not None:
            return self._send(*hub.answer)
        is_api = path.startswith("/api/models/")
        path = path.removeprefix("/api/models").removeprefix("/")
        repo = next((name for name in hub.repos if f"{path}/".startswith(f"{name}/")), None)
        if repo is None:
            return self._send(401 if not self._may() else 404, "RepoNotFound")
        verb, _, rest = path.removeprefix(repo).strip("/").partition("/")
        revision, _, file = rest.partition("/")
        if revision and revision not in {"main", hub.commit(repo), *hub.tags}:
            return self._send(404, "RevisionNotFound")
        if is_api:
            return self._send_json(self._tree(repo) if verb == "tree" else self._info(repo))
        if repo in hub.gated and not self._may():
            return self._send(403, "GatedRepo")
        return self._send_file(repo, file, asked)

    def _may(self) -> bool:
        return bool(self.hub.token) and self.headers["Authorization"] == f"Bearer {self.hub.token}"

    def _info(self, repo: str) -> Any:
        files = self.hub.repos[repo].items()
        siblings = [{"rfilename": name, "size": len(body)} for name, body in files]
        return {"id": repo, "sha": self.hub.commit(repo), "siblings": siblings}

    def _tree(self, repo: str) -> Any:
        files = self.hub.repos[repo].items()
        return [
            {"type": "file", "path": name, "size": len(body), "oid": _sha(body)}
            for name, body in files
        ]

    def _send(self, status: int, code: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, repo: str, name: str, asked: str) -> None:
        body = self.hub.repos[repo].get(name)
        if body is None:
            return self._send(404, "EntryNotFound")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{_sha(body)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(repo))
        self.send_header("Content-Length", str(len(body) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET":
            self._send_body(name, body, start)
        return None

    def _send_body(self, name: str, body: bytes, start: int) -> None:
        end = self.hub.cuts.pop(name, len(body))
        try:
            for at in range(start, end, _PIECE):
                piece = body[at : min(at + _PIECE, end)]
                self.wfile.write(piece)
                if self.hub.rate:
                    time.sleep(len(piece) / self.hub.rate)
            if end < len(body):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
        except OSError:  # The client has gone.
            self.close_connection = True


def serve(hub: Hub, address: str) -> ThreadingHTTPServer:
    """Serves on a thread, on a free port."""
    server = ThreadingHTTPServer((address, 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://{address}:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


@pytest.fixture
def hub() -> Iterator[Hub]:
    """On this machine."""
    hub = Hub()
    server = serve(hub, "127.0.0.1")
    yield hub
    server.shutdown()
    server.server_close()
