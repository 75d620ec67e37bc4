"""An operator on a home of its own, with stub runners."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import stub_api
import yaml
from stub_api import StubApi

from inference_contract import layout, queues
from inference_contract.inferencemodel import InferenceModelStatus, Reason
from inference_operator.cluster.api.client import Cluster, connect
from inference_operator.local.operator import LocalOperator
from inference_operator.local.processes import Processes, stop_all
from inference_operator.local.settings import LocalSettings
from inference_operator.redis.connection import RedisConnection

STUB = Path(__file__).parent / "stub"
MODEL = "alice/m"


class Machine:
    """A home, its Redis, and at most one operator that looks after it."""

    def __init__(self, home: Path, redis_url: str, wait_until: Callable[..., Any]) -> None:
        self.home = home
        self.redis_url = redis_url
        self.redis = redis.Redis.from_url(redis_url)
        self._wait_until = wait_until
        self.operators: list[LocalOperator] = []
        self._processes: list[Processes] = []

    def document(self, stub: str = "ready", name: str = "m", **spec: Any) -> dict[str, Any]:
        env = [{"name": "PYTHONPATH", "value": str(STUB)}, {"name": "STUB", "value": stub}]
        quick = {"scaleDownDelaySeconds": 0, "idleTimeoutSeconds": 0, "targetPerReplica": 10}
        return {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": name, "namespace": "alice"},
            "spec": {
                "type": "text-generation",
                "source": {"path": "/models/m"},
                "autoscaling": quick,
                "env": env,
                **spec,
            },
        }

    def apply(self, stub: str = "ready", name: str = "m", **spec: Any) -> Path:
        return self.write(yaml.safe_dump(self.document(stub, name, **spec)), name)

    def write(self, text: str, name: str = "m") -> Path:
        file = layout.model_file(self.home, "alice", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def settings(self, **changes: Any) -> LocalSettings:
        values: dict[str, Any] = {
            "inference_home": self.home,
            "redis_url": self.redis_url,
        } | changes
        return LocalSettings(_env_file=None, **values)

    def start(self, **changes: Any) -> LocalOperator:
        settings = self.settings(**changes)
        self.connection = RedisConnection(settings.redis_url)
        processes = Processes(self.home)
        self._processes.append(processes)
        self.operators.append(LocalOperator(settings, self.connection, processes))
        return self.operators[-1]

    def until(self, condition: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Let the operator look again and again until it is so."""
        if not self.operators:
            self.start()

        def look() -> Any:
            self.operators[-1].tick()
            return condition()

        return self._wait_until(look, timeout=timeout)

    def status(self, name: str = "m") -> InferenceModelStatus:
        content = layout.status_file(self.home, "alice", name)
        if not content.exists():
            return InferenceModelStatus()
        return InferenceModelStatus.model_validate_json(content.read_text())

    def ready(self, name: str = "m") -> tuple[str | None, str]:
        """Reason and message of the condition Ready."""
        for condition in self.status(name).conditions:
            if condition.type == "Ready":
                return condition.reason, condition.message
        return None, ""

    def says(self, reason: Reason, name: str = "m") -> Callable[[], bool]:
        return lambda: self.ready(name)[0] == reason

    def launches(self) -> dict[str, dict[str, Any]]:
        """Launch records by runner, `<key>-<slot>`."""
        found = sorted((self.home / "run" / "runners").glob("*.launch"))
        return {path.stem: json.loads(path.read_text()) for path in found}

    def pids(self) -> list[int]:
        return [launch["pid"] for launch in self.launches().values()]

    def load(self, queued: int, in_flight: int = 0, model: str = MODEL) -> None:
        key = queues.model_key(model)
        self.redis.delete(queues.queue_key(key), queues.in_flight_key(key))
        if queued:
            self.redis.rpush(queues.queue_key(key), *range(queued))
        if in_flight:
            members = {f"job-{n}": 4e9 for n in range(in_flight)}
            self.redis.zadd(queues.in_flight_key(key), members)

    def close(self) -> None:
        stop_all(self.home, grace_seconds=0)
        for processes in self._processes:
            processes.observe(0)  # Collects the children.
        for operator in self.operators:
            operator.close()
        self.redis.close()


@pytest.fixture
def machine(
    tmp_path: Path,
    redis_url: str,
    wait_until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Machine]:
    monkeypatch.setattr("inference_operator.local.failures.FIRST_BACKOFF", 0.2)
    machine = Machine(tmp_path / "home", redis_url, wait_until)
    yield machine
    machine.close()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubApi]:
    """The API server that KUBECONFIG names."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with stub_api.serve() as api:
        content = {
            "clusters": [{"name": "stub", "cluster": {"server": api.url}}],
            "users": [{"name": "operator", "user": {}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "operator"}}],
            "current-context": "stub",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
        default = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(default, str(tmp_path / "kubeconfig"))
        yield api


@pytest.fixture
def cluster(api: StubApi) -> Cluster:
    return connect(connections=2)
