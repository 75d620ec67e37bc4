"""The operator with thousands of models, on a real API server, their pods on simulated nodes.

Needs a cluster, and `kwok` on PATH. FLEET="2000 5000" says how many models.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import psutil
import yaml
from kubernetes.client import V1Namespace, V1ObjectMeta

import bare_apply
import kwok
import report
from fleet_watch import Key, Watch
from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_OWNER
from inference_local import valkey
from on_cluster import connect, until

CRD = Path(__file__).parents[2] / "crds" / "inferencemodels.yaml"
_A_NAMESPACE = 100
"""Models of one owner."""
_REST = 60.0
_CHURN = 20
"""Changes a second."""
_CHURN_SECONDS = 30


def measure() -> None:
    connect()
    for count in map(int, os.environ.get("FLEET", "2000").split()):
        report.title(f"{count:,} models with a pod each")
        with tempfile.TemporaryDirectory(prefix="inference-fleet-") as name:
            _measure(count, Path(name))


def _measure(count: int, folder: Path) -> None:
    api = kubernetes.client.ApiClient()
    with kwok.nodes(api, count, folder), _models(api, count) as keys:
        bare = bare_apply.seconds(keys)
        print(f"  a loop that writes the same children, and no more: {bare:.1f} s", flush=True)
    with (
        _redis(folder) as redis_url,
        kwok.nodes(api, count, folder),
        _models(api, count) as keys,
        Watch(api) as watch,
    ):
        operator = Operator(folder, redis_url)
        try:
            _first_start(operator, watch, count, bare)
            _restart(operator, watch, count)
            _rest(operator, watch)
            _changes(operator, watch, api, keys)
        finally:
            operator.stop()


def _first_start(operator: Operator, watch: Watch, count: int, bare: float) -> None:
    start = time.monotonic()
    operator.start()
    until(lambda: watch.observed() == count, 1200)
    took = time.monotonic() - start
    report.target("first start: all children made, all reconciled", took, 60, " s")
    print(f"  {took / bare:.2f} of the loop's time", flush=True)
    until(lambda: watch.ready() == count, 600)
    print(f"  all pods ready after {time.monotonic() - start:.1f} s", flush=True)
    report.target("  memory at its highest", operator.peak_mib(), 250, " MiB")
    _until_quiet(operator)


def _restart(operator: Operator, watch: Watch, count: int) -> None:
    operator.stop()
    before = watch.changes
    start = time.monotonic()
    operator.start()
    until(lambda: operator.looks() >= count, 600)
    took = _until_quiet(operator) - start
    report.target("start with all there: all reconciled", took, 60, " s")
    report.target("  memory at its highest", operator.peak_mib(), 250, " MiB")
    print(f"  changes of models: {watch.changes - before}", flush=True)
    print(f"  CPU: {operator.cpu_seconds():.1f} s", flush=True)


def _rest(operator: Operator, watch: Watch) -> None:
    changes, writes = watch.changes, operator.writes()
    cpu = operator.cpu_seconds()
    time.sleep(_REST)  # What is measured is a minute in which nothing happens.
    written = operator.writes() - writes
    report.target("writes within a minute at rest", written + watch.changes - changes, 0)
    print(f"  CPU at rest: {(operator.cpu_seconds() - cpu) / _REST:.1%} of a core", flush=True)


def _changes(
    operator: Operator, watch: Watch, api: kubernetes.client.ApiClient, keys: list[Key]
) -> None:
    alone = []
    for key in random.Random(1).sample(keys, 20):
        generation, start = _change(api, key)
        until(partial(watch.has_observed, key, generation), 60, every=0.005)
        alone.append(time.monotonic() - start)
    report.target("a change at rest is answered, at worst of 20", max(alone), 2, " s")
    delays = sorted(_churn(watch, api, keys))
    report.target(f"the same among {_CHURN} changes a second, at worst", delays[-1], 5, " s")
    middle, high = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    print(f"  of {len(delays)}: p50 {middle:.2f} s, p99 {high:.2f} s", flush=True)
    report.target("memory at its highest", operator.peak_mib(), 250, " MiB")


def _churn(watch: Watch, api: kubernetes.client.ApiClient, keys: list[Key]) -> list[float]:
    """Seconds from each change to a status that has seen it."""
    chosen = random.Random(2).sample(keys, min(len(keys), _CHURN * _CHURN_SECONDS))
    begin = time.monotonic()

    def change(n: int) -> tuple[Key, int, float]:
        time.sleep(max(0.0, begin + n / _CHURN - time.monotonic()))
        return (chosen[n], *_change(api, chosen[n]))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(change, range(len(chosen))))
    until(lambda: all(watch.has_observed(key, generation) for key, generation, _ in made), 120)
    return [watch.observed_at(key, generation) - start for key, generation, start in made]


def _change(api: kubernetes.client.ApiClient, key: Key) -> tuple[int, float]:
    """The generation of a changed model, and when it was changed."""
    custom = kubernetes.client.CustomObjectsApi(api)
    start = time.monotonic()
    body = {"spec": {"maxReplicas": random.randint(2, 1000)}}
    found: Any = custom.patch_namespaced_custom_object(
        GROUP, VERSION, key[0], PLURAL, key[1], body, _content_type="application/merge-patch+json"
    )
    return found["metadata"]["generation"], start


class Operator:
    def __init__(self, folder: Path, redis_url: str) -> None:
        self._state = folder / "operator.json"
        self._log = folder / "operator.log"
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG")},
            "REDIS_URL": redis_url,
            "RUNNER_REDIS_URL": "redis://redis.invalid:6379",
            "RUNNER_IMAGE": "simulated",
            "HARDWARE_PROFILES": json.dumps({"cpu": kwok.PROFILE}),
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": "0",
            "STATE_FILE": str(self._state),
            "LOG_LEVEL": "WARNING",
            "RESYNC_SECONDS": "3600",  # A look at all of them is the restart's: not also at rest.
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._state.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inference_operator"], env=self._env, stdout=log, stderr=log
            )
        until(self._state.exists, 30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)

    def looks(self) -> float:
        return self._metric("inference_operator_reconciles_total")

    def writes(self) -> float:
        return self._metric("inference_operator_writes_total")

    def _metric(self, name: str) -> float:
        """The sum over its labels."""
        port = json.loads(self._state.read_text())["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def peak_mib(self) -> float:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)


def _until_quiet(operator: Operator, seconds: float = 5) -> float:
    """Until it has looked at nothing and written nothing for so long; since when, by the monotonic
    clock."""
    did, since = (-1.0, -1.0), time.monotonic()
    while time.monotonic() - since < seconds:
        if (now := (operator.looks(), operator.writes())) != did:
            did, since = now, time.monotonic()
        time.sleep(0.5)
    return since


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = subprocess.Popen(valkey.command(folder, folder), stdout=subprocess.DEVNULL)
    try:
        until(lambda: valkey.is_ready(folder), 30)
        yield valkey.url(folder)
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def _models(api: kubernetes.client.ApiClient, count: int) -> Iterator[list[Key]]:
    """Their namespaces and names."""
    _define(api)
    core, custom = kubernetes.client.CoreV1Api(api), kubernetes.client.CustomObjectsApi(api)
    names = [f"fleet-{n}" for n in range(-(-count // _A_NAMESPACE))]
    keys = [(names[n // _A_NAMESPACE], f"model-{n}") for n in range(count)]

    def make(key: Key) -> None:
        custom.create_namespaced_custom_object(GROUP, VERSION, key[0], PLURAL, _document(key[1]))

    try:
        for name in names:
            labels = {LABEL_OWNER: name}
            core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name, labels=labels)))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, keys))
        yield keys
    finally:
        for name in names:
            core.delete_namespace(name)
        until(lambda: not core.list_namespace(label_selector=_one_of(names)).items, 900, every=1)


def _one_of(names: list[str]) -> str:
    return f"{LABEL_OWNER} in ({','.join(names)})"


def _document(name: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {"type": "text-generation", "source": {"path": "/m"}, "minReplicas": 1},
    }


def _define(api: kubernetes.client.ApiClient) -> None:
    body = yaml.safe_load(CRD.read_text())
    kubernetes.client.ApiextensionsV1Api(api).patch_custom_resource_definition(
        body["metadata"]["name"],
        body,
        field_manager="bench",
        force=True,
        _content_type="application/apply-patch+yaml",
    )
