"""Receivers on real sockets, and deliveries in the real database."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from inference_gateway.lifecycle.wire import to_wire
from inference_gateway.webhooks.claims import MOST, Claims
from inference_gateway.webhooks.delivery import Delivery
from inference_gateway.webhooks.reading import ContentReader
from inference_gateway.webhooks.sending import Sender

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """Answers with what `script` says, the last line of it for ever; keeps what it got."""

    script: list[Callable[[BaseHTTPRequestHandler], None]]
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=1"


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[..., None]:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return act


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b".")
        time.sleep(0.05)


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"." * 65_536)


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Never an answer, until the other side gives up."""
    handler.rfile.read(1)


ANSWERS = {"drip": drip, "flood": flood, "silence": silence}


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    """`receiver((500, {}), (200, {}))`, or names of `ANSWERS`."""
    servers = []

    def start(*script: Any) -> Receiver:
        lines = [ANSWERS[s] if isinstance(s, str) else answer(s[0], **s[1]) for s in script]
        it = Receiver(lines)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                act = it.script[min(len(it.got), len(it.script) - 1)]
                it.got.append((self.path, dict(self.headers), body))
                try:
                    act(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        it.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return it

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass
class Lab:
    engine: Engine
    executors: list[Executor] = field(default_factory=list)

    def delivery(self, timeout: float = 5, **options: Any) -> Delivery:
        threads = ThreadPoolExecutor(MOST)
        self.executors.append(threads)
        options = {
            "claims": self.claims(timeout),
            "content": ContentReader(self.engine),
            "sender": Sender(timeout_seconds=timeout, allow_loopback=True),
            "render": lambda row: to_wire(row, "http://gw"),
            "wake": threading.Event(),
            **options,
        }
        return Delivery(**options, threads=threads)

    def claims(self, timeout: float = 5) -> Claims:
        return Claims(self.engine, hold_seconds=timeout)

    def insert(
        self,
        url: str,
        event: str = "completed",
        owner: str = "ada",
        output: str = '"héllo"',
        base_url: str | None = None,
    ) -> uuid.UUID:
        """A prediction that has ended, and a delivery of that."""
        (row,) = self.sql(
            "WITH p AS (INSERT INTO predictions (id, owner, model, version, status, token, input,"
            " output, webhook, base_url, deadline, started_at, completed_at)"
            " VALUES (gen_random_uuid(), md5(:owner)::uuid, 'ada/echo', '1', 'succeeded',"
            " 'secret-token', '{}', CAST(:output AS jsonb), :url, :base_url, now(), now(), now())"
            " RETURNING *)"
            " INSERT INTO webhook_deliveries (prediction_id, owner, event, url)"
            " SELECT id, owner, :event, webhook FROM p RETURNING id",
            owner=owner,
            event=event,
            url=url,
            output=output,
            base_url=base_url,
        )
        found: uuid.UUID = row["id"]
        return found

    def account(self, name: str) -> None:
        """An administrator, whose webhooks reach the receivers of this machine."""
        self.sql(
            "INSERT INTO users (id, username, email, password_hash, webhook_secret, is_admin)"
            " VALUES (md5(:name)::uuid, :name, :name || '@example.com', '!', :secret, true)",
            name=name,
            secret=SECRET,
        )

    def row(self, delivery: uuid.UUID) -> dict[str, Any]:
        (row,) = self.sql(
            "SELECT *, EXTRACT(epoch FROM next_attempt_at - now())::float8 AS due_in"
            " FROM webhook_deliveries WHERE id = :id",
            id=delivery,
        )
        return row

    def make_due(self) -> None:
        self.sql("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE state = 'pending'")

    def sql(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            result = connection.execute(text(query), parameters)
            return [row._asdict() for row in result] if result.returns_rows else []


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url, pool_size=8, max_overflow=30)
    lab = Lab(engine)
    lab.account("ada")
    yield lab
    for threads in lab.executors:
        threads.shutdown(wait=True, cancel_futures=True)
    engine.dispose()
