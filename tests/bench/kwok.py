"""Simulated nodes: pods on them become ready by themselves, and run nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes.client
from kubernetes.client import V1Node, V1NodeSpec, V1NodeStatus, V1ObjectMeta, V1Taint

LABEL = {"bench.inference-server.dev/node": "simulated"}
_TAINT = {"key": "bench.inference-server.dev/simulated", "effect": "NoSchedule"}
_PODS = 500
"""Of a node."""

PROFILE = {
    "nodeSelector": LABEL,
    "tolerations": [{"key": _TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}],
}
"""The hardware profile whose models run there."""


@contextmanager
def nodes(api: kubernetes.client.ApiClient, pods: int, folder: Path) -> Iterator[None]:
    """Room for so many pods. Needs `kwok` on PATH: `tests/cluster/tools kwok`."""
    core = kubernetes.client.CoreV1Api(api)
    argv = ["kwok", f"--kubeconfig={os.environ['KUBECONFIG']}", "--manage-all-nodes=false"]
    argv += ["--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"]
    with (folder / "kwok.log").open("wb") as log:
        kwok = subprocess.Popen([*argv, "--node-lease-duration-seconds=40"], stdout=log, stderr=log)
    names = [f"simulated-{n}" for n in range(-(-pods // _PODS))]
    try:
        for name in names:
            core.create_node(_node(name))
        yield
    finally:
        for name in names:
            core.delete_node(name)
        kwok.terminate()
        kwok.wait(20)


def _node(name: str) -> V1Node:
    room = {"cpu": "1000", "memory": "4Ti", "pods": str(_PODS)}
    return V1Node(
        metadata=V1ObjectMeta(name=name, labels=LABEL, annotations={"kwok.x-k8s.io/node": "fake"}),
        spec=V1NodeSpec(taints=[V1Taint(**_TAINT)]),
        status=V1NodeStatus(capacity=room, allocatable=room),
    )
