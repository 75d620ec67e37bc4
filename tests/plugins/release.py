"""A release of the chart on a real cluster, as its users and its administrator see it.

The machine that runs the tests is the cluster's node: it has access to the addresses of Services,
and its folders can be volumes.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from inference_contract.pods import LABEL_MODEL, LABEL_OWNER

CHART = Path(__file__).parents[2] / "charts" / "inference-server"
CLUSTER_DIR = Path(os.environ.get("CLUSTER_DIR", Path.home() / ".cache" / "inference-cluster"))
"""Of the cluster that `tests/cluster/up` starts."""
WaitUntil = Callable[..., Any]
Object = dict[str, Any]


def run(*argv: str, stdin: str | None = None, seconds: float = 300) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return run("kubectl", *arguments, stdin=stdin)


def apply(*objects: Object) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"kind": "List", "items": objects, **_V1}))


_V1 = {"apiVersion": "v1"}


def host_volume(name: str, folder: Path, storage_class: str = "") -> Object:
    """A PersistentVolume that is a folder of this machine."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "hostPath": {"path": str(folder)},
        "storageClassName": storage_class,
        "persistentVolumeReclaimPolicy": "Retain",
    }
    return {**_V1, "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def items(*arguments: str) -> list[Object]:
    found: list[Object] = json.loads(kubectl("get", *arguments, "-o", "json"))["items"]
    return found


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and not terminating."""
    conditions = pod["status"].get("conditions", ())
    says = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return says and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: Object) -> int:
    return sum(container["restartCount"] for container in pod["status"]["containerStatuses"])


def crash(pod: Object) -> None:
    """Kill every process of a pod with SIGKILL; its containers restart."""
    uid = pod["metadata"]["uid"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            groups = (folder / "cgroup").read_text().replace("_", "-")
            if uid in groups and (folder / "comm").read_text() != "pause\n":
                found.append(int(folder.name))
    assert found, f"no process of {pod['metadata']['name']}: is this machine the node?"
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


class _Transport(httpx.HTTPTransport):
    """While a Service has no pod, a proxy on the way may answer at its address."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if "x-request-id" not in response.headers:
            response.close()
            raise httpx.ConnectError(f"{request.url} is not answered by a gateway")
        return response


def connect(url: str, token: str | None = None, seconds: float = 90) -> httpx.Client:
    """A client of the gateway, with a short timeout for connects, which may go to a deleted pod."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(seconds, connect=2)
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=_Transport())


@dataclass
class Account:
    """A registered user, this user's namespace, and the API as this user sees it."""

    name: str
    token: str
    api: httpx.Client
    wait_until: WaitUntil
    namespace: str = ""

    def __post_init__(self) -> None:
        self.namespace = f"inference-{self.name}"

    def make_namespace(self) -> None:
        """Create the user's namespace as an administrator does, if there is none yet."""
        labels = {LABEL_OWNER: self.name}
        apply({**_V1, "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})

    def apply(self, name: str, **spec: Any) -> str:
        """The model's id."""
        apply(
            {
                "apiVersion": "inference-server.dev/v1alpha1",
                "kind": "InferenceModel",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )
        model_id = f"{self.name}/{name}"
        # The gateway's watch may lag.
        self.wait_until(lambda: self.api.get(f"/v1/models/{model_id}").status_code == 200)
        return model_id

    def delete(self, name: str) -> None:
        kubectl("-n", self.namespace, "delete", "inferencemodel", name, "--ignore-not-found")

    def ready(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message of the model's condition Ready."""
        where = 'jsonpath={.status.conditions[?(@.type=="Ready")]}'
        found = kubectl("-n", self.namespace, "get", "inferencemodel", name, "-o", where)
        condition = json.loads(found) if found else {}
        status, reason, message = (
            condition.get(key, "") for key in ("status", "reason", "message")
        )
        return status, reason, message

    def until_ready(
        self, name: str, reason: str = "Ready", words: str = "", timeout: float = 60
    ) -> str:
        """Wait for a reason of the model's condition Ready, and a text in its message; returns the
        message."""

        def told() -> tuple[str, str, str] | None:
            found = self.ready(name)
            return found if found[1] == reason and words in found[2] else None

        message: str = self.wait_until(told, timeout, every=0.2)[2]
        return message

    def status(self, name: str) -> Object:
        where = ("-n", self.namespace, "get", "inferencemodel", name, "-o", "json")
        found: Object = json.loads(kubectl(*where)).get("status", {})
        return found

    def pods(self, model: str) -> list[Object]:
        return items("pods", "-n", self.namespace, "-l", f"{LABEL_MODEL}={model}")

    def create(self, model_id: str, **inputs: Any) -> Object:
        body = {"model_id": model_id, "input": inputs}
        reply = self.api.post("/v1/predictions", json=body)
        assert reply.status_code == 201, reply.text
        made: Object = reply.json()
        return made

    def until_ended(self, prediction: Object, timeout: float = 60) -> Object:
        path = f"/v1/predictions/{prediction['id']}"
        ended: Object = self.wait_until(
            lambda: (found := self.api.get(path).json())["completed_at"] and found, timeout
        )
        return ended

    def predict(self, model_id: str, timeout: float = 60, **inputs: Any) -> Object:
        return self.until_ended(self.create(model_id, **inputs), timeout)


@dataclass
class Release:
    name: str
    """Also of its namespace."""
    names: list[str]
    """Names of accounts that may be created, each once."""
    wait_until: WaitUntil
    options: tuple[str, ...] = ()
    """Options of every `helm install` and `helm upgrade`."""
    accounts: list[Account] = field(default_factory=list)
    url: str = ""

    def install(self) -> None:
        self._helm("install", "--create-namespace")
        [service] = items("services", "-n", self.name, *self.select("gateway"))
        self.url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
        self.wait_until(self.answers)

    def upgrade(self, *options: str) -> None:
        self._helm("upgrade", *options)

    def rollback(self, revision: int) -> None:
        arguments = (self.name, str(revision), "--namespace", self.name)
        run("helm", "rollback", *arguments, "--wait", "--timeout", "4m")

    def _helm(self, verb: str, *options: str) -> None:
        given = (*self.options, *options, "--wait", "--timeout", "4m")
        run("helm", verb, self.name, str(CHART), "--namespace", self.name, *given)

    def uninstall(self) -> None:
        """Delete models first, so that their runners can return their predictions. Does nothing if
        the release is already uninstalled."""
        namespaces = {account.namespace for account in self.accounts}
        for namespace in namespaces:
            kubectl("-n", namespace, "delete", "inferencemodels", "--all", "--wait=false")

        def are_gone() -> bool:
            pods = items("pods", "-A", "-l", LABEL_MODEL)
            return namespaces.isdisjoint(pod["metadata"]["namespace"] for pod in pods)

        self.wait_until(are_gone, 90, every=0.5)
        run("helm", "uninstall", self.name, "-n", self.name, "--wait", "--ignore-not-found")
        kubectl("delete", "namespace", self.name, "--ignore-not-found")

    def answers(self) -> bool:
        try:
            with connect(self.url, seconds=5) as client:
                return client.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def account(self) -> Account:
        name, password = self.names.pop(0), secrets.token_hex(12)
        with connect(self.url) as client:
            body = {"username": name, "email": f"{name}@example.com", "password": password}
            client.post("/v1/auth/register", json=body).raise_for_status()
            login = {"username": name, "password": password}
            made = client.post("/v1/auth/token", data=login).raise_for_status().json()
            headers = {"Authorization": f"Bearer {made['access_token']}"}
            made = client.post("/v1/auth/tokens", json={"name": "tests"}, headers=headers)
        # An API token: an access token would expire during the tests.
        token = made.raise_for_status().json()["token"]
        self.accounts.append(Account(name, token, connect(self.url, token), self.wait_until))
        return self.accounts[-1]

    def select(self, component: str) -> tuple[str, str]:
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        return "-l", labels

    def pods(self, component: str) -> list[Object]:
        return items("pods", "-n", self.name, *self.select(component))

    def uids(self, *components: str) -> set[str]:
        return {pod["metadata"]["uid"] for name in components for pod in self.pods(name)}

    def kill(self, component: str) -> set[str]:
        """Delete all pods of a component with a grace period of a second; returns their uids. Not
        by force: a database's next pod would start beside the old one, on the same files."""
        doomed = self.uids(component)
        select = self.select(component)
        kubectl("-n", self.name, "delete", "pod", *select, "--grace-period=1", "--wait=false")
        return doomed

    def crash(self, component: str) -> None:
        """Crash a component's one pod, and wait until it is ready again."""
        [pod] = self.pods(component)
        crash(pod)
        self.wait_until(lambda: restarts(self.pods(component)[0]) > restarts(pod), 60, every=0.1)
        self.wait_until(lambda: is_ready(self.pods(component)[0]), 90, every=0.2)

    def until_gone(self, uids: set[str]) -> None:
        """Wait until none of these pods exists."""
        where = ("-n", self.name, "-l", f"app.kubernetes.io/instance={self.name}")

        def are_gone() -> bool:
            return uids.isdisjoint(pod["metadata"]["uid"] for pod in items("pods", *where))

        self.wait_until(are_gone, 60, every=0.5)

    def until_back(self, component: str, gone: set[str], timeout: float = 90) -> None:
        """Wait until new pods are ready in place of these."""

        def is_back() -> bool:
            pods = self.pods(component)
            others = gone.isdisjoint(pod["metadata"]["uid"] for pod in pods)
            return bool(pods) and others and all(map(is_ready, pods))

        self.wait_until(is_back, timeout, every=0.2)

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query, by psql in the pod of PostgreSQL."""
        [pod] = self.pods("postgresql")
        psql = 'PGPASSWORD=$POSTGRES_PASSWORD exec psql -h 127.0.0.1 -U inference -At -c "$0"'
        where = ("-n", self.name, "exec", pod["metadata"]["name"])
        out = kubectl(*where, "--", "sh", "-c", psql, query)
        return [line.split("|") for line in out.splitlines()]
