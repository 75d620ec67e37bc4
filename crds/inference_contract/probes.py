"""The small HTTP server of the processes that serve no API: health and metrics for a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Reply(NamedTuple):
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

    def __init__(self, host: str, port: int, routes: Mapping[str, Callable[[], Reply]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                route = routes.get(self.path.partition("?")[0])
                reply = route() if route else Reply(404, b"not found\n")
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds: not worth a line."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, name="probes", daemon=True, args=(0.5,)
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
