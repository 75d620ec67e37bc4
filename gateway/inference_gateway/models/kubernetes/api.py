"""Requests to a Kubernetes API server with the official client; objects are plain JSON.

KubernetesError
├── Unreachable          no response, or none in time
│   └── Unanswered       the request was or may have been sent
└── KubernetesRefused    an error response

Imported only where a cluster is configured: the client costs 10 MiB.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
import yaml
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import load_incluster_config
from kubernetes.config.kube_config import load_kube_config
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from inference_contract import kubernetes_status, values

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

FIELD_MANAGER = "inference-gateway"
_CONNECT_SECONDS = 3
_READ_SECONDS = 10
_PAGE = 500
_WATCH_SECONDS = 60
"""Timeout of a watch, so that a stalled one ends soon."""


class KubernetesError(Exception):
    pass


class Unreachable(KubernetesError):
    pass


class Unanswered(Unreachable):
    pass


class KubernetesRefused(KubernetesError):
    """An error response, described by its `Status` object."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {body.get('reason', '')}: {body.get('message', '')}")
        self.status = status
        self.reason: str = body.get("reason") or ""
        self.message: str = body.get("message") or ""
        details = body.get("details") or {}
        self.kind: str = details.get("kind") or ""
        """The refused resource, in the plural: `namespaces`."""
        self.causes: list[dict[str, str]] = details.get("causes") or []

    @property
    def is_gone(self) -> bool:
        """Whether the requested resource version has expired: list again."""
        return self.status == 410


def configuration(kubeconfig: str | None) -> Configuration:
    """The configuration of the cluster in KUBECONFIG, else of the one that this process runs in.

    Raises:
        KubernetesError: if there is none; one line.
    """
    found = Configuration()
    try:
        if kubeconfig:
            load_kube_config(kubeconfig, client_configuration=found, persist_config=False)
        else:
            load_incluster_config(found)
    except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise KubernetesError(" ".join(str(error).split())) from error
    # The callers decide about retries.
    found.retries = False
    return found


class KubernetesApi:
    """Every method blocks, raises KubernetesError, and may be called from any thread."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER
        self._watches: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def list_all(self, path: str, query: Mapping[str, str]) -> tuple[list[Object], str]:
        """All objects, page by page, and the resourceVersion to watch from."""
        items: list[Object] = []
        more = ""
        while True:
            pages = {"limit": str(_PAGE)} | ({"continue": more} if more else {})
            page = self._call("GET", path, {**query, **pages})
            items += page["items"]
            more = page["metadata"].get("continue") or ""
            if not more:
                return items, page["metadata"]["resourceVersion"]

    @contextlib.contextmanager
    def watch(
        self, path: str, query: Mapping[str, str], version: str
    ) -> Iterator[Iterator[Object]]:
        """The events after a resourceVersion, with bookmarks, until the API server ends the
        watch."""
        parameters = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = self._send("GET", path, parameters, read_seconds=_WATCH_SECONDS + 15)
        with self._lock:
            self._watches.add(response)
        try:
            if self._is_closed:
                raise Unreachable("closed")
            yield _events(response)
        finally:
            with self._lock:
                self._watches.discard(response)
            response.close()
            response.release_conn()

    def open_watches(self) -> int:
        with self._lock:
            return len(self._watches)

    def get(self, path: str) -> Object:
        return self._call("GET", path)

    def create(self, path: str, body: Object) -> Object:
        return self._call("POST", path, {"fieldManager": FIELD_MANAGER}, body)

    def patch(self, path: str, operations: list[Object]) -> Object:
        """By JSON Patch (RFC 6902)."""
        return self._call("PATCH", path, {"fieldManager": FIELD_MANAGER}, operations)

    def delete(self, path: str) -> Object:
        return self._call("DELETE", path)

    def close(self) -> None:
        """Close all connections, which also ends watches on other threads."""
        self._is_closed = True
        with self._lock:
            watches = list(self._watches)
        for response in watches:
            stream = getattr(getattr(response, "connection", None), "sock", None)
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def _call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Object:
        response = self._send(method, path, query or {}, body)
        answer: Object = _parsed(_read(response))
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        read_seconds: float = _READ_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        """A successful response; its body is not read yet."""
        headers = {"Accept": "application/json"}
        if body is not None:
            kind = "json-patch+json" if method == "PATCH" else "json"
            headers["Content-Type"] = f"application/{kind}"
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=[*query.items()],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            timeout = (_CONNECT_SECONDS, read_seconds)
            answer = self._client.call_api(*request, _request_timeout=timeout)
        except (NewConnectionError, ConnectTimeoutError, ConfigException) as error:
            raise Unreachable(" ".join(str(error).split())) from error
        except (HTTPError, ApiException, OSError) as error:
            raise Unanswered(" ".join(str(error).split())) from error
        response: urllib3.BaseHTTPResponse = answer.response
        if not 200 <= response.status < 300:
            raise KubernetesRefused(response.status, kubernetes_status.read(_read(response)))
        return response


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.data
    except (HTTPError, OSError) as error:
        raise Unanswered(str(error)) from error


def _parsed(content: bytes) -> Any:
    try:
        return values.parse(content)
    except ValueError as error:
        raise Unanswered(f"what answers is not an API server: {error}") from error


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[Object]:
    rest = b""
    try:
        for chunk in response.stream(65_536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield _event(line)
    except (HTTPError, OSError) as error:
        raise Unanswered(str(error)) from error


def _event(line: bytes) -> Object:
    event: Object = _parsed(line)
    if event["type"] == "ERROR":
        raise KubernetesRefused(int(event["object"].get("code", 500)), event["object"])
    return event
