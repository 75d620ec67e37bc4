"""skaffold.yaml names what it copies into pods."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_every_package_of_the_gateway_is_copied_but_the_migrations() -> None:
    artifacts = yaml.safe_load((ROOT / "skaffold.yaml").read_text())["build"]["artifacts"]
    [gateway] = [a for a in artifacts if a["image"] == "inference-gateway"]
    package = ROOT / "gateway" / "inference_gateway"
    packages = sorted(found.parent.name for found in package.glob("*/__init__.py"))
    packages.remove("migrations")
    globs = [rule["src"] for rule in gateway["sync"]["manual"]]
    assert f"gateway/inference_gateway/{{{','.join(packages)}}}/**/*.py" in globs
