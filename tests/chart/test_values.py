"""What the chart takes as values, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_contract.inferencemodel import Pod

CHART = Path(__file__).parents[2] / "charts" / "inference-server"
NAME = "inf-inference-server"


def test_amounts_may_be_numbers(render: Callable[..., Any]) -> None:
    resources = {"requests": {"cpu": 1, "memory": 8000000000}, "limits": {"cpu": 1.5}}
    made = render(
        {
            "gateway": {"resources": resources},
            "hardwareProfiles": {"cpu": {"resources": resources}},
            "valkey": {"persistence": {"size": 2000000000}},
        }
    )
    given = made.containers()["gateway/gateway"]["resources"]
    assert given["requests"] == {"cpu": 1, "memory": 8000000000}
    assert given["limits"]["cpu"] == 1.5
    (claim,) = made.one("StatefulSet", f"{NAME}-valkey")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"] == {"storage": 2000000000}
    profiles = json.loads(made.environment("operator")["HARDWARE_PROFILES"])
    # The contract knows strings only.
    assert profiles["cpu"]["resources"] == {
        "requests": {"cpu": "1", "memory": "8000000000"},
        "limits": {"cpu": "1.5"},
    }


def test_null_takes_from_the_hardware_profiles(render: Callable[..., Any]) -> None:
    gke = {"nvidia.com/gpu.product": None, "cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    made = render({"hardwareProfiles": {"nvidia-h100": None, "nvidia-t4": {"nodeSelector": gke}}})
    profiles = json.loads(made.environment("operator")["HARDWARE_PROFILES"])
    assert list(profiles) == ["cpu", "nvidia-t4"]
    assert profiles["nvidia-t4"]["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-t4"
    }
    none = render({"hardwareProfiles": None}).environment("operator")
    assert none["HARDWARE_PROFILES"] == "{}"


def test_a_hardware_profile_is_bound_as_the_contract_has_it() -> None:
    """What the schema lets through, the operator's settings must not refuse."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    profile = schema["properties"]["hardwareProfiles"]["additionalProperties"]["properties"]
    contract = Pod.model_json_schema()["properties"]
    assert set(profile) == set(contract)
    for name in ("image", "runtimeClassName", "priorityClassName"):
        found = profile[name]
        if "$ref" in found:
            found = schema["definitions"][found["$ref"].rpartition("/")[2]]
        text, _null = contract[name]["anyOf"]
        assert found == text, name


def test_a_chart_around_it_may_switch_it(render: Callable[..., Any]) -> None:
    """Helm leaves the condition of a dependency, and `global`, among its values."""
    assert render({"enabled": True, "global": {"region": "eu"}}).names("ConfigMap") == [NAME]


def test_limits_of_accounts_reach_the_gateway(render: Callable[..., Any]) -> None:
    config = {"trustedProxies": ["10.244.0.0/16", "fd00::/8"], "ratePerUser": 0.5, "quotaGpus": 0}
    made = render({"config": {**config, "quotaStoredBytes": "1.5Ti", "quotaModels": 1000000}})
    environment = made.environment("gateway")
    assert environment["TRUSTED_PROXIES"] == "10.244.0.0/16,fd00::/8"
    assert environment["RATE_PER_USER"] == "0.5"
    assert environment["QUOTA_GPUS"] == "0"
    assert environment["QUOTA_STORED_BYTES"] == "1.5Ti"
    assert environment["QUOTA_MODELS"] == "1000000"


# (values, what the refusal names)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "replicas"),
    ({"gateway": {"replica": 2}}, "/gateway"),
    ({"gateway": {"replicas": "2"}}, "/gateway/replicas"),
    ({"gateway": {"resources": {"request": {}}}}, "/gateway/resources"),
    ({"config": {"logLevel": "LOUD"}}, "/config/logLevel"),
    ({"config": {"quotaStoredBytes": "much"}}, "/config/quotaStoredBytes"),
    ({"config": {"trustedProxies": ["proxy"]}}, "/config/trustedProxies"),
    ({"config": {"leaseSeconds": 0}}, "/config/leaseSeconds"),
    ({"hardwareProfiles": {"cpu": {"nodeselector": {}}}}, "/hardwareProfiles/cpu"),
    ({"hardwareProfiles": {"cpu": {"image": ""}}}, "/hardwareProfiles/cpu/image"),
    (
        {"hardwareProfiles": {"cpu": {"runtimeClassName": ""}}},
        "/hardwareProfiles/cpu/runtimeClassName",
    ),
    (
        {"hardwareProfiles": {"cpu": {"priorityClassName": "High"}}},
        "/hardwareProfiles/cpu/priorityClassName",
    ),
    (
        {"gateway": {"resources": {"limits": {"cpu": 0.0001}}}},
        "/gateway/resources/limits/cpu",
    ),
    ({"gateway": {"resources": {"limits": {"cpu": -1}}}}, "/gateway/resources/limits/cpu"),
    ({"valkey": {"maxmemory": "700Mi"}}, "/valkey/maxmemory"),
    ({"valkey": {"maxmemory": "0mb"}}, "/valkey/maxmemory"),
    (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 12}}},
        "gateway.autoscaling.maxReplicas is 10: set it to minReplicas, 12, or more",
    ),
    ({"networkPolicy": {"apiServer": {"cidrs": ["kubernetes"]}}}, "/networkPolicy/apiServer/cidrs"),
    ({"ingress": {"enabled": True}}, "ingress.host is needed"),
    ({"test": {"model": "ada/echo"}}, "test.existingSecret is needed"),
]


@pytest.mark.parametrize(("values", "problem"), REFUSED)
def test_a_mistake_is_refused(
    template: Callable[..., subprocess.CompletedProcess[str]], values: dict[str, Any], problem: str
) -> None:
    done = template(values)
    assert done.returncode != 0
    assert problem in done.stderr


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def closed(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "properties" in node and isinstance(node["properties"], dict):
                yield node
            for child in node.values():
                yield from closed(child)

    assert all(node["additionalProperties"] is False for node in closed(schema))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # A chart around this one leaves them.
    assert set(schema["properties"]) - {"global", "enabled"} == set(values)


def test_every_value_has_a_line_about_it() -> None:
    profiles = False
    for line in (CHART / "values.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            profiles = line.startswith("hardwareProfiles")
        leaf = re.match(r" *(requests|limits): ", line) is None and re.match(r" *\w+: *[^ #]", line)
        assert not leaf or profiles or "  # " in line, line
