"""A small HTTP server for health and metrics, in processes without a REST API."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_MAX_OPEN = 32
"""Open connections; beyond, the oldest is closed, so that idle clients do not block probes."""
_SILENT_SECONDS = 5.0
"""Seconds that a client may be silent."""


class ProbeReply(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class ProbeServer:
    """Answers GET of `routes` on a daemon thread.

    Args:
        port: 0 takes a free one; `port` then holds it.

    Raises:
        OSError: if the port is taken.
    """

    def __init__(
        self, host: str, port: int, routes: Mapping[str, Callable[[], ProbeReply]]
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _SILENT_SECONDS
            # Used for unparsable requests; an HTTP/0.9 response would have no head.
            default_request_version = "HTTP/1.0"

            def do_GET(self) -> None:
                route = routes.get(self.path.partition("?")[0])
                self._answer(route() if route else _problem(404))

            def send_error(
                self, code: int, message: str | None = None, _: str | None = None
            ) -> None:
                self.close_connection = True
                self._answer(_problem(code, message))

            def _answer(self, reply: ProbeReply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def end_headers(self) -> None:
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                super().end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Not logged: probes come every few seconds."""

        self._server = _Server((host, port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, name="probes", daemon=True, args=(0.5,)
        ).start()

    def forget(self) -> None:
        """In a forked child: the port is the parent's."""
        self._server.socket.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _problem(status: int, detail: str | None = None) -> ProbeReply:
    """RFC 9457."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail or title}
    return ProbeReply(status, json.dumps(body).encode(), "application/problem+json")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > _MAX_OPEN else None
        if oldest is not None:
            self._forget(oldest)
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._forget(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Not logged: the client disconnected, or was disconnected."""

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
