"""An operator as a process, and its namespace in a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import kubernetes.client
from kubernetes.client.exceptions import ApiException
from narrow import there

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_MODEL

OWNER = "alice"
MODEL = "m"
CHILD = "m-runner"
_WRITES = "inference_operator_writes_total"
NO_IMAGE = "localhost:5000/no-such-image:1"
PAUSE = "localhost/pause:1"
"""An image that is on every node; its container runs and never becomes ready."""


class ClusterOperator:
    """A namespace, and the operator that serves it."""

    def __init__(
        self,
        api: kubernetes.client.ApiClient,
        namespace: str,
        folder: Path,
        redis_url: str,
        wait_until: Callable[..., Any],
    ) -> None:
        self.apps = kubernetes.client.AppsV1Api(api)
        self.core = kubernetes.client.CoreV1Api(api)
        self.network = kubernetes.client.NetworkingV1Api(api)
        self._custom = kubernetes.client.CustomObjectsApi(api)
        self._api = api
        self.namespace = namespace
        self.folder = folder
        self.redis_url = redis_url
        self._wait_until = wait_until
        self._process: subprocess.Popen[bytes] | None = None
        self._others: list[ClusterOperator] = []

    def beside(self, folder: Path) -> ClusterOperator:
        """Another operator for the same namespace."""
        folder.mkdir()
        other = ClusterOperator(self._api, self.namespace, folder, self.redis_url, self._wait_until)
        self._others.append(other)
        return other

    def start(self, **settings: str) -> None:
        state = self.folder / "operator.json"
        state.unlink(missing_ok=True)
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG")},
            "REDIS_URL": self.redis_url,
            "RUNNER_REDIS_URL": "redis://redis.test:6379",
            "RUNNER_IMAGE": NO_IMAGE,
            "WATCH_NAMESPACES": self.namespace,
            "RESYNC_SECONDS": "1",
            "TICK_SECONDS": "0.1",
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": "0",
            "STATE_FILE": str(state),
            **settings,
        }
        with (self.folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inference_operator"], env=env, stderr=log, stdout=log
            )
        self.until(state.exists)

    def until(self, condition: Callable[[], Any], timeout: float = 20) -> Any:
        """Wait for a condition; fails if the operator dies meanwhile."""

        def look() -> Any:
            assert self._process is None or self._process.poll() is None, "the operator is gone"
            return condition()

        try:
            return self._wait_until(look, timeout=timeout)
        except AssertionError as error:
            error.add_note(self._story())
            raise

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def close(self) -> None:
        """Kills the operator, and the others for this namespace."""
        for other in self._others:
            other.close()
        self.kill()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def logs(self) -> list[dict[str, Any]]:
        text = (self.folder / "operator.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(float(line.rpartition(" ")[2]) for line in self._metrics(name))

    def health(self) -> str:
        return self._get("/health/ready")

    def _metrics(self, name: str) -> list[str]:
        return [line for line in self._get("/metrics").splitlines() if line.startswith(name)]

    def _get(self, path: str) -> str:
        port = json.loads((self.folder / "operator.json").read_text())["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
            text: str = response.read().decode()
        return text

    def _story(self) -> str:
        """Counts of reconciles and writes, and the last log lines, for a failed test's report."""
        log = self.folder / "operator.log"
        if self._process is None or self._process.poll() is not None or not log.exists():
            return "no operator runs"
        counts = [*self._metrics("inference_operator_reconciles"), *self._metrics(_WRITES)]
        return "\n".join([*counts, *log.read_text().splitlines()[-10:]])

    def make(self, name: str = MODEL, namespace: str = "", **spec: Any) -> None:
        quick = {"scaleDownDelaySeconds": 0, "idleTimeoutSeconds": 0, "targetPerReplica": 10}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceModel",
            "metadata": {"name": name},
            "spec": {
                "type": "text-generation",
                "source": {"path": "/models/m"},
                "autoscaling": quick,
                **spec,
            },
        }
        place = GROUP, VERSION, namespace or self.namespace, PLURAL
        self._custom.create_namespaced_custom_object(*place, body)

    def change(self, **spec: Any) -> None:
        place = GROUP, VERSION, self.namespace, PLURAL, MODEL
        self._custom.patch_namespaced_custom_object(
            *place, {"spec": spec}, _content_type="application/merge-patch+json"
        )

    def delete(self) -> None:
        place = GROUP, VERSION, self.namespace, PLURAL, MODEL
        self._custom.delete_namespaced_custom_object(*place)

    def model(self, namespace: str = "", name: str = MODEL) -> dict[str, Any]:
        place = GROUP, VERSION, namespace or self.namespace, PLURAL, name
        found: Any = self._custom.get_namespaced_custom_object(*place)
        return dict(found)

    def status(self, namespace: str = "", name: str = MODEL) -> dict[str, Any]:
        status: dict[str, Any] = self.model(namespace, name).get("status", {})
        return status

    def condition(
        self, type: str = "Ready", namespace: str = "", name: str = MODEL
    ) -> dict[str, Any]:
        conditions = self.status(namespace, name).get("conditions", [])
        return next((c for c in conditions if c["type"] == type), {})

    def until_reason(
        self, reason: str, timeout: float = 30, namespace: str = "", name: str = MODEL
    ) -> str:
        """Wait for this reason of the condition Ready; returns its message."""

        def ready() -> dict[str, Any]:
            return self.condition(namespace=namespace, name=name)

        self.until(lambda: ready().get("reason") == reason, timeout)
        return str(ready()["message"])

    def age(self, namespace: str) -> tuple[datetime, str]:
        """Sort key of namespaces, the oldest first."""
        metadata = there(self.core.read_namespace(namespace).metadata)
        return there(metadata.creation_timestamp), namespace

    def deployment(self) -> dict[str, Any] | None:
        """As JSON, or None."""
        try:
            found = self.apps.read_namespaced_deployment(CHILD, self.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        content: dict[str, Any] = self._api.sanitize_for_serialization(found)
        return content

    def replicas(self) -> int | None:
        deployment = self.deployment()
        return deployment["spec"]["replicas"] if deployment else None

    def pods(self, name: str = MODEL) -> list[Any]:
        selector = f"{LABEL_MODEL}={name}"
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def events(self) -> list[tuple[str, str]]:
        """Reason and message of the model's own events."""
        selector = "involvedObject.kind=InferenceModel"
        found = self.core.list_namespaced_event(self.namespace, field_selector=selector).items
        return [(there(event.reason), there(event.message)) for event in found]
