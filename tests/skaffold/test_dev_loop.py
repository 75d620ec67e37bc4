"""`skaffold dev` on a real cluster, with a copy of the tree that is edited: `make e2e`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMESPACE = "inference-skaffold"
CRD = "inferencemodels.inference-server.dev"
UNUSED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
DEV = ("skaffold", "dev", "--profile", "buildah", "--default-repo", "localhost:5000")
UNATTENDED = {"SKAFFOLD_INTERACTIVE": "false", "SKAFFOLD_UPDATE_CHECK": "false"}

WaitUntil = Callable[..., Any]


def kubectl(*arguments: str) -> str:
    argv = ["kubectl", "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def operator() -> dict[str, Any]:
    """The container of its Deployment."""
    name = "deployment/inference-inference-server-operator"
    found = kubectl("get", name, "--output", "jsonpath={.spec.template.spec.containers[0]}")
    container: dict[str, Any] = json.loads(found)
    return container


def releases(labels: str) -> str:
    """Those of Helm's records that have these labels."""
    return kubectl("get", "secret", f"--selector=owner=helm,{labels}", "--output", "name")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Loop:
    tree: Path
    process: subprocess.Popen[bytes]
    output: Path
    url: str

    def edit(self, file: str, old: str, new: str) -> float:
        """When that was."""
        path = self.tree / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} no longer has one {old!r}"
        path.write_text(text.replace(old, new))
        return time.monotonic()

    def follows(self) -> bool:
        said = self.output.read_text()
        assert self.process.poll() is None, f"skaffold has ended: {said}"
        return "Watching for changes" in said

    def title(self) -> str:
        """Of the API, or nothing while it starts anew."""
        try:
            title: str = httpx.get(f"{self.url}/openapi.json", timeout=5).json()["info"]["title"]
        except (httpx.HTTPError, ValueError):
            return ""
        return title


def fit(tree: Path, port: int) -> None:
    """Keep this release apart from others on the same cluster."""
    file = tree / "skaffold.yaml"
    skaffold = yaml.safe_load(file.read_text())
    skaffold["deploy"]["helm"]["releases"][0]["namespace"] = NAMESPACE
    skaffold["portForward"][0] |= {"namespace": NAMESPACE, "localPort": port}
    file.write_text(yaml.safe_dump(skaffold))
    file = tree / "tests/e2e/values.yaml"
    values = yaml.safe_load(file.read_text()) | {"watchNamespaces": [NAMESPACE]}
    # A definition that is there already is not this release's.
    is_there = kubectl("get", "crd", CRD, "--ignore-not-found", "--output", "name")
    values["crds"] = {"install": not is_there}
    file.write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil) -> Iterator[Loop]:
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG names no cluster: run `make e2e`")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    tree = tmp_path_factory.mktemp("skaffold") / "tree"
    shutil.copytree(ROOT, tree, ignore=UNUSED)
    port = free_port()
    fit(tree, port)
    output = tree.with_name("output")
    start = time.monotonic()
    with output.open("wb") as log:
        process = subprocess.Popen(
            DEV, cwd=tree, env={**os.environ, **UNATTENDED}, stdout=log, stderr=log
        )
    made = Loop(tree, process, output, f"http://127.0.0.1:{port}")
    try:
        wait_until(made.follows, 600, every=0.5)
        print(f"skaffold dev: {time.monotonic() - start:.1f} s until it watches")
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


@pytest.mark.timeout(900)
def test_the_loop_from_its_start_to_ctrl_c(loop: Loop, wait_until: WaitUntil) -> None:
    wait_until(lambda: loop.title() == "Inference Server", 30)
    pods = kubectl("get", "pods", "--output", "name")

    start = loop.edit("gateway/inference_gateway/api/app.py", 'title="Inference', 'title="Edited')
    wait_until(lambda: loop.title().startswith("Edited"), 60)
    print(f"an edited gateway: served after {time.monotonic() - start:.1f} s")

    name = "deployment/inference-inference-server-operator"
    start = loop.edit(
        "operator/inference_operator/cluster/operator.py", '"watching %s', '"edited: %s'
    )
    wait_until(lambda: "edited: " in kubectl("logs", name), 60)
    print(f"an edited operator: runs after {time.monotonic() - start:.1f} s")
    assert kubectl("get", "pods", "--output", "name") == pods, (
        "copied into the pods, not rolled out"
    )

    before = operator()["env"]
    start = loop.edit("runner/inference_runner/process.py", '"loading"', '"edited"')
    wait_until(lambda: operator()["env"] != before, 120)
    print(f"an edited runner: an image for the operator after {time.monotonic() - start:.1f} s")

    # The second revision: in the middle of the upgrade Ctrl-C would leave the Job of the first.
    wait_until(lambda: releases("status=deployed,version=2"), 120)
    loop.process.send_signal(signal.SIGINT)
    assert loop.process.wait(60) == 0, loop.output.read_text()
    wait_until(lambda: not kubectl("get", "pods", "--output", "name"), 60)
    assert not releases("name=inference")
