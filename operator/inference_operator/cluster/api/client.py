"""The only Kubernetes I/O: objects as JSON, a method for each request, each with a time limit.

Uses the client library's transport, not its 700 generated models: the operator reads and applies
plain manifests.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import kubernetes.config
import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from inference_contract import kubernetes_status, values
from inference_contract.inferencemodel import API_VERSION, KIND
from inference_operator import log_tail
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Key, KubernetesEvent, Manifest

FIELD_MANAGER = "inference-operator"
_MANAGED = f"?fieldManager={FIELD_MANAGER}"
_PAGE = 100
"""Objects in one page of a list."""
_TIMEOUT = (5.0, 20.0)
"""Seconds to connect, and to wait for bytes."""
_LOGGED = re.compile(r"^\d{4}-\d\d-\d\dT\S+ (.*)$", re.MULTILINE)
"""A log line with its timestamp, as the container runtime keeps it."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"


Page = tuple[list[Manifest], str]
"""Some objects of a list, and the resource version of the whole list."""


class ClusterError(Exception):
    """The API server refused the request or did not answer; the message is the server's."""

    is_expected = True
    """Logged as a line, without a traceback."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; 0 if there was no response."""


class Cluster:
    """Thread-safe. The callers bound the concurrency: one request for each worker.

    Args:
        timeout: seconds to connect, and to wait for bytes; a single number limits both together.
    """

    def __init__(
        self,
        client: kubernetes.client.ApiClient,
        timeout: tuple[float, float] | float = _TIMEOUT,
    ) -> None:
        self._client = client
        self._timeout = timeout

    def within(self, seconds: float) -> Cluster:
        """A client that waits at most so many seconds for a response."""
        return Cluster(self._client, seconds)

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """None if the object does not exist."""
        try:
            return self._json("GET", kind.path(namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def pages(self, kind: Kind, namespace: str = "", labels: str = "") -> Iterator[Page]:
        """All objects of a namespace, or of all namespaces, as of one resource version."""
        query = {"limit": str(_PAGE), "labelSelector": labels}
        while True:
            page = self._json("GET", f"{kind.path(namespace)}?{urlencode(query)}")
            metadata = page["metadata"]
            # Items of a list lack these fields, which a watch and a GET return.
            what = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
            items = [{**what, **item} for item in page["items"]]
            yield items, metadata["resourceVersion"]
            if not (token := metadata.get("continue")):
                return
            query["continue"] = token

    def create(self, kind: Kind, namespace: str, body: Manifest) -> Manifest:
        return self._json("POST", kind.path(namespace), body, _JSON)

    def replace(self, kind: Kind, namespace: str, body: Manifest) -> Manifest:
        """Status 409 if the object no longer has the body's resource version."""
        return self._json("PUT", kind.path(namespace, body["metadata"]["name"]), body, _JSON)

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """A missing object is no error."""
        try:
            self._json("DELETE", kind.path(namespace, name))
        except ClusterError as error:
            if error.status != 404:
                raise

    def log_tail(
        self, namespace: str, pod: str, container: str, *, previous: bool
    ) -> list[str] | None:
        """The last log lines of a container; None if the kubelet cannot read them."""
        query = f"container={container}&tailLines={log_tail.LINES}&limitBytes={log_tail.MAX_BYTES}"
        query += f"&timestamps=true&previous={str(previous).lower()}"
        path = Kind.POD.path(namespace, pod, "log")
        try:
            return log_lines(self._call("GET", f"{path}?{query}").decode(errors="replace"))
        except ClusterError:
            return None

    def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Server-side apply: the operator then owns the manifest's fields."""
        metadata = manifest["metadata"]
        return self._apply(kind.path(metadata["namespace"], metadata["name"]), manifest)

    def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        """Create an object by server-side apply, in one request; None if the object exists.

        The API server refuses an apply whose resource version is not the object's. No object has
        version 1, which is that of the empty etcd.
        """
        metadata = {**manifest["metadata"], "resourceVersion": "1"}
        try:
            return self.apply(kind, {**manifest, "metadata": metadata})
        except ClusterError as error:
            if error.status == 409:
                return None
            raise

    def scale(self, namespace: str, deployment: str, replicas: int) -> Manifest:
        """Returns the Scale; its resource version is the Deployment's."""
        path = Kind.DEPLOYMENT.path(namespace, deployment, "scale")
        return self._json("PATCH", path + _MANAGED, {"spec": {"replicas": replicas}}, _MERGE)

    def annotate(self, namespace: str, pod: str, annotations: dict[str, str]) -> None:
        """A missing pod is no error."""
        path = Kind.POD.path(namespace, pod) + _MANAGED
        try:
            self._json("PATCH", path, {"metadata": {"annotations": annotations}}, _MERGE)
        except ClusterError as error:
            if error.status != 404:
                raise

    def write_status(self, key: Key, version: str, status: dict[str, Any]) -> Manifest | None:
        """The updated model; None if its resource version is outdated or the model is deleted.

        The version also guards the uid: the API server checks no other precondition on a status.
        """
        namespace, name = key
        content = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": version},
            "status": status,
        }
        try:
            return self._apply(Kind.MODEL.path(namespace, name, "status"), content)
        except ClusterError as error:
            if error.status in (404, 409):
                return None
            raise

    def emit(self, key: Key, uid: str, event: KubernetesEvent) -> None:
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
        self.create(Kind.EVENT, namespace, body)

    def _apply(self, path: str, body: Manifest) -> Manifest:
        return self._json("PATCH", f"{path}{_MANAGED}&force=true", body, _APPLY)

    def _json(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = ""
    ) -> Manifest:
        content = self._call(method, path, body, content_type)
        answer: Manifest = values.parse(content)
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
            response = self._client.call_api(*request, _request_timeout=self._timeout)
            content: bytes = response.read()
        except ApiException as error:
            raise ClusterError(error.status or 0, str(error.reason)) from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(0, f"the API server does not answer: {error}") from error
        if not 200 <= response.status < 300:
            message = str(kubernetes_status.read(content)["message"])
            raise ClusterError(response.status, message or f"HTTP {response.status}")
        return content


def connect(connections: int) -> Cluster:
    """From a pod by its service account, else by KUBECONFIG.

    Raises:
        kubernetes.config.ConfigException: if there is neither.
    """
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_incluster_config(configuration)
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = connections
    # Callers retry after a pause; urllib3 would retry at once, with the full timeout each time.
    configuration.retries = False
    return Cluster(kubernetes.client.ApiClient(configuration))


def log_lines(text: str) -> list[str] | None:
    """The lines of a log with timestamps, without these; None if the text is not a log.

    For a removed container the kubelet answers 200 with an error text in place of the log
    (kubernetes/kubernetes#142258); that line has no timestamp.
    """
    lines = log_tail.shortened(_LOGGED.findall(text))
    return None if text and not lines else lines
