"""The only Kubernetes I/O: objects as JSON, one call a function, every call with a time limit.

Written against the client's transport, not its 700 generated models: what the operator reads and
applies are plain manifests.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import kubernetes.client
import kubernetes.config
import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from inference_contract.inferencemodel import API_VERSION, KIND
from inference_contract.pods import LABEL_MODEL
from inference_operator.events import Event
from inference_operator.kinds import Kind
from inference_operator.launches import TAIL_LINES
from inference_operator.manifests.child import Manifest
from inference_operator.manifests.pod import CONTAINER
from inference_operator.work_queue import Key

FIELD_MANAGER = "inference-operator"
_TIMEOUT = (5, 20)
"""Seconds to connect, and to wait for bytes."""
_MAX_LOG_BYTES = 64_000
_MAX_LINE = 2000
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


class ClusterError(Exception):
    """The API server refused, or did not answer; the message is its own."""

    is_expected = True
    """Worth a line in the log, not a traceback."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP's; 0 if nobody answered."""


class Cluster:
    """Thread-safe. Concurrency is bounded by the callers: a call a worker."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self._client = client

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """None if there is no such object."""
        return self._get(kind.path(namespace, name))

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        found = self._get(f"/api/v1/namespaces/{quote(namespace)}") or {}
        return dict(found.get("metadata", {}).get("labels") or {})

    def pods(self, namespace: str, model: str) -> list[Manifest]:
        query = f"?labelSelector={quote(f'{LABEL_MODEL}={model}')}"
        return cast("list[Manifest]", self._json("GET", Kind.POD.path(namespace) + query)["items"])

    def log_tail(self, namespace: str, pod: str, *, previous: bool) -> list[str]:
        """The last lines of the runner; none if the kubelet no longer has them."""
        query = f"container={CONTAINER}&tailLines={TAIL_LINES}&limitBytes={_MAX_LOG_BYTES}"
        query += f"&previous={str(previous).lower()}"
        path = Kind.POD.path(namespace, pod, "log")
        try:
            text = self._call("GET", f"{path}?{query}").decode(errors="replace")
        except ClusterError:
            return []
        return [line[:_MAX_LINE] for line in text.splitlines()]

    def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Server-side apply: what the manifest holds is ours from then on."""
        metadata = manifest["metadata"]
        return self._apply(kind.path(metadata["namespace"], metadata["name"]), manifest)

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        path = Kind.DEPLOYMENT.path(namespace, deployment, "scale")
        query = f"?fieldManager={FIELD_MANAGER}"
        self._json("PATCH", path + query, {"spec": {"replicas": replicas}}, _MERGE)

    def write_status(self, key: Key, status: dict[str, Any]) -> None:
        """A model that is gone has no status: no error."""
        namespace, name = key
        content = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        try:
            self._apply(Kind.MODEL.path(namespace, name, "status"), content)
        except ClusterError as error:
            if error.status != 404:
                raise

    def emit(self, key: Key, uid: str, event: Event) -> None:
        namespace, name = key
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": namespace,
                "name": name,
                "uid": uid,
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.note,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._json("POST", Kind.EVENT.path(namespace), body, "application/json")

    def _get(self, path: str) -> Manifest | None:
        try:
            return self._json("GET", path)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def _apply(self, path: str, body: Manifest) -> Manifest:
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        return self._json("PATCH", path + query, body, _APPLY)

    def _json(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = ""
    ) -> Manifest:
        answer: Manifest = json.loads(self._call(method, path, body, content_type))
        return answer

    def _call(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = ""
    ) -> bytes:
        headers = {"Accept": "application/json"}
        if path.partition("?")[0].endswith("/log"):
            headers["Accept"] = "*/*"
        if content_type:
            headers["Content-Type"] = content_type
        request = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=_TIMEOUT)
            content: bytes = response.read()  # type: ignore[no-untyped-call]  # the client's
        except ApiException as error:
            raise ClusterError(error.status or 0, str(error.reason)) from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(0, f"the API server does not answer: {error}") from error
        if not 200 <= response.status < 300:
            raise ClusterError(response.status, _message(content) or f"HTTP {response.status}")
        return content


def connect(connections: int) -> Cluster:
    """From a pod by its service account, else by KUBECONFIG.

    Raises:
        kubernetes.config.ConfigException: if there is neither.
    """
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # the client's
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the client's
    configuration.connection_pool_maxsize = connections
    return Cluster(kubernetes.client.ApiClient(configuration))


def _message(content: bytes) -> str:
    """The message of a Status object."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace")
