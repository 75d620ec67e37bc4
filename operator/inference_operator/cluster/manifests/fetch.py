"""The init container that downloads a hub model before its runner starts.

It may take longer than loadSeconds, and needs no more resources than the runner.
"""

from __future__ import annotations

from typing import Any

from inference_contract.pods import RunnerEnv
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.manifests.pod import verbatim

FETCH = "fetch"
_ENDPOINT = "HF_ENDPOINT"
_OFFLINE = "HF_HUB_OFFLINE"
_NATIVE = {"cpu", "memory", "ephemeral-storage"}


def fetch_first(template: Manifest, hub_url: str | None) -> Manifest:
    """Add the init container to a pod template; the runner's container then runs offline.

    Args:
        hub_url: the hub, unless the model's environment names one; None: huggingface.co
    """
    spec = template["spec"]
    [runner] = spec["containers"]
    init = {
        "name": FETCH,
        "image": runner["image"],
        "command": ["python", "-P", "-m", "inference_runner.fetch"],
        "env": _with(_without_redis(runner["env"]), _ENDPOINT, hub_url and verbatim(hub_url)),
        "resources": _native(runner["resources"]),
        "securityContext": runner["securityContext"],
        "volumeMounts": runner["volumeMounts"],
    }
    offline = {**runner, "env": _with(runner["env"], _OFFLINE, "1")}
    return {**template, "spec": {**spec, "initContainers": [init], "containers": [offline]}}


def _without_redis(env: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in env if entry["name"] != RunnerEnv.REDIS_URL]


def _with(env: list[dict[str, Any]], name: str, value: str | None) -> list[dict[str, Any]]:
    """Add a variable, unless the model's document sets it already."""
    if value is None or any(entry["name"] == name for entry in env):
        return env
    return sorted([*env, {"name": name, "value": value}], key=lambda entry: str(entry["name"]))


def _native(resources: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The runner's resources without devices. A pod requests the larger of both containers, so the
    init container adds nothing and keeps the QoS class."""
    kept = {
        field: {name: amount for name, amount in amounts.items() if name in _NATIVE}
        for field, amounts in resources.items()
    }
    return {field: amounts for field, amounts in kept.items() if amounts}
