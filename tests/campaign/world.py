"""The stack that a campaign attacks: its models, its database, its sockets."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg2
import redis
from inference_stack import Stack

from cases import End
from inference_contract import statefile
from inference_operator.local.runner_files import recorded
from interpose import Interposer
from judge import Evidence, Stored

T = TypeVar("T")
HERE = Path(__file__).parent
LEASE_SECONDS = 2.0
MAX_ATTEMPTS = 3
_DISK = "1500m"
_SETTINGS = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "SWEEP_SECONDS": "0.2",
    "MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "WEBHOOK_TIMEOUT_SECONDS": "1.5",
    "LOCAL_TICK_SECONDS": "0.2",
}
_AUDIT = """
CREATE TABLE audit (prediction uuid, what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit VALUES (OLD.id, lower(TG_OP)); RETURN NULL;
END $$;
CREATE TRIGGER audit_end AFTER UPDATE ON predictions FOR EACH ROW
  WHEN (NEW.completed_at IS NOT NULL) EXECUTE FUNCTION audit();
CREATE TRIGGER audit_delete AFTER DELETE ON predictions FOR EACH ROW EXECUTE FUNCTION audit();
"""
_ROWS = """
SELECT id::text, status, output, error_code, idempotency_key, input->>'text', attempt, crashes,
  logs, cancel_requested_at IS NOT NULL, COALESCE(completed_at >= deadline - interval '1 second',
  false), extract(epoch FROM created_at)::float8,
  extract(epoch FROM COALESCE(completed_at, now()))::float8
FROM predictions
"""
_MODELS = {
    "quick": {"class": "Quick", "inputs": ("text",), "minReplicas": 2, "maxReplicas": 2},
    "story": {"class": "Story", "inputs": ("text",), "minReplicas": 2, "maxReplicas": 2},
    "moody": {"class": "Moody", "inputs": ("text", "do"), "minReplicas": 1},
    "slow": {"class": "Moody", "inputs": ("text", "do"), "minReplicas": 1},
    "doomed": {"class": "Moody", "inputs": ("text", "do"), "minReplicas": 2, "maxReplicas": 2},
    "villain": {"class": "Quick", "inputs": ("text",), "minReplicas": 1},
    "bystander": {"class": "Quick", "inputs": ("text",), "minReplicas": 1},
}
"""`villain` is one whose runner counts as hostile; `bystander` is who must not notice. A prediction
of `doomed` ends its runner three times, and that takes up to 5 s and its start to be back: one in a
hundred predictions are too many for one runner."""


class Overdue(Exception):
    """A condition was not reached in time; the message names it."""


class World:
    """A started stack, with its models ready."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stack = Stack(home, **_SETTINGS)
        self.stack.start()
        self.url = self.stack.url
        self.headers = {"Authorization": f"Bearer {self.stack.token}"}
        self.database = Interposer(self._socket(self.stack.database_url, ".s.PGSQL.5432"))
        self.redis = Interposer(Path(self.stack.redis_url.removeprefix("unix://").split("?")[0]))
        # libpq finds a socket by its folder and its port.
        self._direct = self.database.path.parent / "direct"
        self._direct.mkdir()
        (self._direct / self.database.path.name).symlink_to(self.database.server)
        self._interpose()
        self.sql(_AUDIT)
        for name, model in _MODELS.items():
            self._apply(name, dict(model))
        for name in _MODELS:
            self.until(partial(self._ready, name), 60, f"{name} is ready")

    def _interpose(self) -> None:
        """What was connected before is connected anew."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        with self.direct_redis() as client:
            client.execute_command("CLIENT", "KILL", "SKIPME", "yes")

    def close(self) -> None:
        for interposer in (self.database, self.redis):
            interposer.stop()
        self.stack.stop()

    def _socket(self, url: str, name: str) -> Path:
        folder = url.partition("host=")[2].partition("&")[0]
        return Path(folder) / name

    def runners(self) -> list[int]:
        """Pids of the processes that run the models' code, and of their parents."""
        pids = []
        for launch, files in recorded(self.home):
            state = statefile.read(files.state) or {}
            pids += [pid for pid in (launch.pid, state.get("pid")) if pid]
        return pids

    def model(self, name: str) -> str:
        return f"admin/{name}"

    def _apply(self, name: str, model: dict[str, Any]) -> None:
        inputs = model.pop("inputs")
        document = {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": name, "namespace": "admin"},
            "spec": {
                "type": "custom",
                "source": {"path": str(HERE)},
                "engine": {"className": f"victims:{model.pop('class')}"},
                "inputSchema": {field: {"type": "string"} for field in inputs},
                "batching": {"maxBatchSize": 8},
                "timeouts": {"predictSeconds": 4},
                **model,
            },
        }
        url = f"{self.url}/v1/models/admin/{name}"
        reply = httpx.put(url, json=document, headers=self.headers, timeout=30)
        assert reply.is_success, reply.text

    def _ready(self, name: str) -> bool:
        reply = httpx.get(f"{self.url}/v1/models/admin/{name}", headers=self.headers, timeout=30)
        return reply.is_success and reply.json()["status"]["ready_replicas"] > 0

    def is_healthy(self) -> bool:
        """Whether the processes and the servers that they need are ready again."""
        try:
            says_ok = httpx.get(f"{self.url}/health", timeout=5).json()["status"] == "ok"
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return says_ok and self.stack.is_ready()

    def connect(self, **options: Any) -> Any:
        """To the database itself, whatever lies in between. Raises psycopg2.OperationalError."""
        url = f"postgresql://inference@/postgres?host={self._direct}&port=5432"
        settings = "-c default_transaction_read_only=off"
        return psycopg2.connect(url, connect_timeout=3, options=settings, **options)

    def sql(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement that is committed. Raises psycopg2.OperationalError."""
        connection = self.connect()
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, args)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def direct_redis(self) -> redis.Redis:
        """Valkey itself, whatever lies in between."""
        return redis.Redis(unix_socket_path=str(self.redis.server), socket_timeout=5)

    def evidence(self) -> Evidence:
        rows = {}
        for row in self.sql(_ROWS):
            made, status, output, code, *rest = row
            rows[made] = Stored(made, End(status, output, code), *rest)
        audit = self.sql("SELECT prediction::text, what FROM audit")
        told = self.sql(
            "SELECT prediction_id::text, count(*) FROM webhook_deliveries "
            "WHERE event = 'completed' GROUP BY 1"
        )
        return Evidence(
            rows,
            Counter(prediction for prediction, what in audit if what == "update"),
            frozenset(prediction for prediction, what in audit if what == "delete"),
            Counter(dict(told)),
            MAX_ATTEMPTS,
        )

    def whole_rows(self) -> list[dict[str, Any]]:
        """Predictions with all that is stored of them."""
        return [row for (row,) in self.sql("SELECT to_jsonb(p) - 'token' FROM predictions p")]

    def open_predictions(self) -> int:
        return int(self.sql("SELECT count(*) FROM predictions WHERE completed_at IS NULL")[0][0])

    def pending_webhooks(self) -> int:
        statement = "SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'"
        return int(self.sql(statement)[0][0])

    def until(self, condition: Callable[[], T], seconds: float, what: str) -> T:
        """Raises Overdue with the name of the condition."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except psycopg2.OperationalError:
                pass
            if time.monotonic() > end:
                raise Overdue(f"not so after {seconds:.0f} s: {what}")
            time.sleep(0.05)


@contextmanager
def started() -> Iterator[World]:
    """A world on a disk of its own if this process may mount one (else none is ever full)."""
    with tempfile.TemporaryDirectory(prefix="inference-campaign-") as name:
        folder = Path(name)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "tmpfs", name]
        own = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
        try:
            world = World(folder / "home")
            try:
                yield world
            finally:
                world.close()
        finally:
            if own:
                subprocess.run(["umount", "-l", name], check=True)
            else:
                shutil.rmtree(folder / "home", ignore_errors=True)
