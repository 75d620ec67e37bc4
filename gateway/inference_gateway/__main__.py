"""`python -m inference_gateway`: the REST API. Exit codes: 2 misconfigured, 1 port taken."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from inference_contract import files, logs, statefile
from inference_contract.stopping import Stopping
from inference_gateway.api.app import create_app, front, prepare
from inference_gateway.background import memory
from inference_gateway.http.connections import Connections, Limits, Phase
from inference_gateway.http.listeners import AcceptingServer, listen
from inference_gateway.http.uvicorn_protocol import BoundedProtocol
from inference_gateway.services import Services
from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError, read_settings

log = logging.getLogger("inference_gateway")

_GRACE_SECONDS = 5
"""How long a stopping gateway waits for unfinished responses."""
_END_SECONDS = 10
"""Limit from the signal to the exit. Kubernetes kills the process after 30 seconds."""
_RESERVED_FILES = 256
"""File descriptors for other uses than clients: logs, PostgreSQL, Redis, documents, Kubernetes."""


class Server(AcceptingServer):
    """Reports when it listens, and ends streams when it stops."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, settings: GatewaySettings, port: int
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._port = port
        self._reclaiming = memory.MemoryReclaim(lambda: len(self.server_state.connections))
        self._stopping = Stopping(_END_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.begin()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        prepare(self._app)
        await super().startup(sockets)
        if self.started:
            memory.keep_for_good()
            await self._reclaiming.start()
            if self._settings.state_file is not None:
                content = {"pid": os.getpid(), "port": self._port}
                statefile.write(self._settings.state_file, content)
            log.info("listening", extra={"host": self._settings.api_host, "port": self._port})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.predictions.release()
        await super().shutdown(sockets)
        await self._reclaiming.stop()


def protocol(settings: GatewaySettings) -> Any:
    """The protocol factory for uvicorn."""
    limits = Limits(
        max_header_bytes=settings.max_header_bytes,
        max_headers=settings.max_headers,
        max_url_bytes=settings.max_url_bytes,
        seconds={
            Phase.IDLE: settings.keep_alive_seconds,
            Phase.HEAD: settings.header_seconds,
            Phase.BODY: settings.body_seconds,
            Phase.WRITE: settings.write_seconds,
        },
    )
    limit = files.raise_limit()
    most = min(settings.max_connections, max(10, limit - _RESERVED_FILES))
    files.make_room(min(limit, most + _RESERVED_FILES))
    connections = Connections(most, limits.seconds)
    return partial(BoundedProtocol, connections, limits)


def serve(settings: GatewaySettings, app: FastAPI, listeners: list[socket.socket]) -> int:
    config = uvicorn.Config(
        front(app),
        loop="uvloop",
        http=protocol(settings),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn's own would trust every local peer; the middleware handles proxy headers.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = Server(config, app, settings, port=listeners[0].getsockname()[1])
    # uvicorn raises the signal again at the end, when nothing is left to stop.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=listeners)
    return 0 if server.started else 3


def main() -> int:
    try:
        settings = read_settings()
        app = create_app(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logs.configure("gateway", settings.log_level)
    memory.return_freed_memory()
    try:
        listeners = listen(settings.api_host, settings.api_port)
    except OSError as error:
        where = f"{settings.api_host}:{settings.api_port}"
        if error.errno == errno.EADDRINUSE:
            problem = "is taken: stop what listens there, or set API_PORT to another port"
        else:
            problem = f"cannot be listened on ({error.strerror}): set API_HOST and API_PORT"
        sys.stderr.write(f"{where} {problem}\n")
        return 1
    return serve(settings, app, listeners)


if __name__ == "__main__":
    sys.exit(main())
