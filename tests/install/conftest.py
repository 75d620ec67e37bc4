"""The chart, installed on a real cluster with the real images: `make e2e`.

KUBECONFIG names the cluster. Images are those that `tests/cluster/images` has pushed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "inference-server"
VALUES = Path(__file__).with_name("values.yaml")
CRD = "inferencemodels.inference-server.dev"
RELEASE = NAMESPACE = "inference-e2e"


def run(*argv: str, stdin: str | None = None, seconds: float = 300) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return run("kubectl", *arguments, stdin=stdin)


@pytest.fixture(scope="session", name="kubectl")
def _kubectl() -> Callable[..., str]:
    return kubectl


@dataclass
class Account:
    """A registered user, and the API as this user sees it."""

    name: str
    api: httpx.Client
    namespace: str = ""

    def __post_init__(self) -> None:
        self.namespace = f"inference-{self.name}"

    def predict(self, model: str, *, wait: int = 60, **inputs: Any) -> dict[str, Any]:
        reply = self.api.post(
            "/v1/predictions",
            json={"model_id": model, "input": inputs},
            headers={"Prefer": f"wait={wait}"},
        )
        assert reply.status_code in (201, 202), reply.text
        found: dict[str, Any] = reply.json()
        return found


@dataclass
class Installation:
    url: str
    seconds: float
    """From `helm install` until it returned."""
    accounts: list[Account] = field(default_factory=list)

    def account(self) -> Account:
        name = f"user{secrets.token_hex(3)}"
        password = secrets.token_hex(12)
        with httpx.Client(base_url=self.url, timeout=90) as client:
            body = {"username": name, "email": f"{name}@example.com", "password": password}
            client.post("/v1/auth/register", json=body).raise_for_status()
            login = {"username": name, "password": password}
            token = client.post("/v1/auth/token", data=login).raise_for_status().json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        made = Account(name, httpx.Client(base_url=self.url, headers=headers, timeout=90))
        self.accounts.append(made)
        return made


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def installation(wait_until: Callable[..., Any]) -> Iterator[Installation]:
    """The chart, installed for the first time, with a port of this machine that leads to it."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG names no cluster: run `make e2e`")
    # Tests of the API server may have applied the definition before us: then it is not Helm's.
    is_there = "inferencemodels" in kubectl("get", "crd", "--ignore-not-found", "-o", "name", CRD)
    switches = ("--set", "crds.install=false") if is_there else ()
    start = time.monotonic()
    install = ("helm", "install", RELEASE, str(CHART), "--namespace", NAMESPACE, *switches)
    run(*install, "--create-namespace", "--values", str(VALUES), "--wait", "--timeout", "4m")
    seconds = time.monotonic() - start
    port = _free_port()
    service = json.loads(
        kubectl(
            *("-n", NAMESPACE, "get", "service", "-l", "app.kubernetes.io/component=gateway"),
            *("-o", "json"),
        )
    )["items"][0]["metadata"]["name"]
    forward = subprocess.Popen(
        ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{service}", f"{port}:80"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    made = Installation(f"http://127.0.0.1:{port}", seconds)
    try:
        wait_until(lambda: _answers(made.url))
        yield made
    finally:
        forward.terminate()
        forward.wait()
        for account in made.accounts:
            account.api.close()
        run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
        names = [NAMESPACE, *(account.namespace for account in made.accounts)]
        kubectl("delete", "namespace", *names, "--ignore-not-found")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
