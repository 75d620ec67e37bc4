"""The chart, rendered by the real Helm: from PATH, or built by `make cluster`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "inference-server"
KUBERNETES = "1.34.0"
Values = dict[str, Any]


class Manifests(list[dict[str, Any]]):
    """What a chart makes."""

    def names(self, kind: str) -> list[str]:
        return sorted(found["metadata"]["name"] for found in self if found["kind"] == kind)

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [m for m in self if (m["kind"], m["metadata"]["name"]) == (kind, name)]
        return found

    def templates(self) -> list[dict[str, Any]]:
        """Of the pods that a controller makes."""
        return [found["spec"]["template"] for found in self if "template" in found.get("spec", ())]

    def pods(self) -> dict[str, dict[str, Any]]:
        """The spec of every pod, by the component that its label names."""
        return {
            pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]
            for pod in (*(found for found in self if found["kind"] == "Pod"), *self.templates())
        }

    def containers(self) -> dict[str, dict[str, Any]]:
        """By component and name."""
        return {
            f"{component}/{container['name']}": container
            for component, pod in self.pods().items()
            for container in (*pod.get("initContainers", ()), *pod["containers"])
        }

    def environment(self, component: str) -> dict[str, Any]:
        """Of its main container: values, and a `valueFrom` for those that come from elsewhere."""
        container = self.containers()[f"{component}/{component}"]
        found: dict[str, Any] = {}
        for source in container.get("envFrom", ()):
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container["env"]:
            found[entry["name"]] = entry.get("value", entry.get("valueFrom"))
        return found


Render = Callable[..., Manifests]


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it; the result, whatever it is."""
    cluster = Path(os.environ.get("CLUSTER_DIR") or Path.home() / ".cache" / "inference-cluster")
    binary = shutil.which("helm") or shutil.which("helm", path=str(cluster / "bin"))
    if binary is None:
        missing = "no helm: put it into PATH, or run `make cluster`, which builds it"
        (pytest.fail if "CI" in os.environ else pytest.skip)(missing)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture
def template(
    helm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Renders with these values, release `inf` in namespace `prod`; the result, whatever it is."""

    def run(values: Values, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        options = ("--namespace", "prod", "--kube-version", KUBERNETES, "--values", str(file))
        return helm("template", "inf", str(chart), *options)

    return run


@pytest.fixture
def render(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    def run(values: Values | None = None, chart: Path = CHART) -> Manifests:
        done = template(values or {}, chart)
        assert done.returncode == 0, done.stderr
        return Manifests(found for found in yaml.safe_load_all(done.stdout) if found)

    return run
