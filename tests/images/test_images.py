"""Each image, as a pod under the restricted Pod Security Standard on a real cluster: `make e2e`.

Images are those that `tests/cluster/images` has pushed.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
VALUES = yaml.safe_load((HERE.parent / "e2e" / "values.yaml").read_text())
INSIDE = (HERE / "inside.py").read_text()
TOOLS = "gcc cc g++ clang make uv cargo rustc git"
OURS = "inference_contract inference_gateway inference_operator inference_local inference_runner"
THEIRS = "fastapi sqlalchemy kopf kubernetes torch transformers watchfiles pip pytest"

# (image, modules of OURS and THEIRS, process → exit code and what its refusal names)
IMAGES: list[tuple[str, str, dict[str, tuple[int, str]]]] = [
    (
        "gateway",
        "inference_contract inference_gateway fastapi sqlalchemy kubernetes",
        {
            "inference_gateway": (2, "DATABASE_URL"),
            "inference_gateway.dispatch": (2, "DATABASE_URL"),
        },
    ),
    (
        "operator",
        "inference_contract inference_operator kopf kubernetes",
        {"inference_operator": (2, "REDIS_URL")},
    ),
    (
        "runner",
        "inference_contract inference_runner torch transformers",
        {"inference_runner": (5, "INFERENCE_MODEL_ID")},
    ),
]
ECHO = """
from inference_runner.engines.base import BaseInferenceModel

class Echo(BaseInferenceModel):
    def load(self): pass
    def predict(self, inputs): return inputs
    def unload(self): pass
"""
STARTS_WITHIN = 4.0
"""Seconds from a runner's container to its readiness, its model aside."""


def image(name: str) -> str:
    found = VALUES[name]["image"]
    return f"{found['repository']}:{found['tag']}"


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Callable[..., str]]:
    """In a namespace that admits restricted pods only, which goes with the tests."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG names no cluster: run `make e2e`")
    namespace = f"images-{secrets.token_hex(3)}"

    def run(*arguments: str, stdin: str | None = None) -> str:
        argv = ["kubectl", "--namespace", namespace, *arguments]
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    run("create", "namespace", namespace)
    try:
        run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        yield run
    finally:
        run("delete", "namespace", namespace)


def pod(name: str, **container: Any) -> str:
    """A pod of the image of that name, with its own user, which may write nothing but /tmp."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "models", "configMap": {"name": "models"}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "models", "mountPath": "/models"}]
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": name,
                "image": image(name),
                "imagePullPolicy": "Always",
                "securityContext": security,
                "volumeMounts": mounts,
                **container,
            }
        ],
        "volumes": volumes,
    }
    metadata = {"generateName": f"{name}-"}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.fixture(scope="module")
def start(kubectl: Callable[..., str]) -> Callable[[str], str]:
    """Makes a pod; its name."""
    kubectl("create", "configmap", "models", f"--from-literal=echo.py={ECHO}")
    return lambda manifest: kubectl("create", "-o", "name", "-f", "-", stdin=manifest).strip()


@pytest.mark.timeout(600)  # The first pod of a runner fetches gigabytes.
@pytest.mark.parametrize(("name", "modules", "processes"), IMAGES)
def test_what_is_inside(
    kubectl: Callable[..., str],
    start: Callable[[str], str],
    name: str,
    modules: str,
    processes: dict[str, tuple[int, str]],
) -> None:
    arguments = [TOOLS, f"{OURS} {THEIRS}", " ".join(processes)]
    made = start(pod(name, command=["python", "-P", "-c", INSIDE, *arguments]))
    kubectl("wait", made, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=9m")
    found = json.loads(kubectl("logs", made))
    refusals = found.pop("refusals")
    assert found == {
        "user": 10001,
        "commands": [],
        "modules": modules.split(),
        "not compiled": [],
        "writable": ["/tmp"],
    }
    for process, (code, problem) in processes.items():
        refusal = refusals[process]
        assert refusal["code"] == code, refusal
        assert any(problem in line for line in refusal["lines"]), refusal
        # A line for each setting that is missing, and no traceback.
        assert len(refusal["lines"]) <= 2, refusal


@pytest.mark.timeout(600)
def test_a_runner_starts_within_seconds(
    kubectl: Callable[..., str], start: Callable[[str], str], wait_until: Callable[..., Any]
) -> None:
    spec = {
        "type": "custom",
        "source": {"path": "/models"},
        "engine": {"className": "echo:Echo"},
    }
    told = {
        "INFERENCE_MODEL_ID": "ann/echo",
        "INFERENCE_MODEL_SPEC": json.dumps(spec),
        "REDIS_URL": "redis://127.0.0.1:6379/0",
        "RUNNER_PORT": "8001",
    }
    environment = [{"name": name, "value": value} for name, value in told.items()]
    command = ["sh", "-c", "echo started; exec python -P -m inference_runner"]
    probe = {"httpGet": {"path": "/health/live", "port": 8001}, "periodSeconds": 1}
    made = start(pod("runner", command=command, env=environment, livenessProbe=probe))
    kubectl("wait", made, "--for=condition=Ready", "--timeout=9m")

    def times() -> tuple[datetime, datetime] | None:
        lines = kubectl("logs", made, "--timestamps").splitlines()
        ready = [line for line in lines if '"event": "ready"' in line]
        return (stamp(lines[0]), stamp(ready[0])) if ready else None

    started, ready = wait_until(times)
    seconds = (ready - started).total_seconds()
    print(f"a runner is ready {seconds:.2f} s after its container's start")
    assert seconds < STARTS_WITHIN
    kubectl("delete", made, "--now")


def stamp(line: str) -> datetime:
    """When the kubelet's log says that it was written."""
    return datetime.fromisoformat(line.split(" ", 1)[0])
