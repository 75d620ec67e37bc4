"""Tests against a real API server: `make cluster-test` brings one up and runs them.

Each test works in namespaces of its own, which go with it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from inference_contract.pods import LABEL_OWNER

CRD = Path(__file__).parents[2] / "crds" / "inferencemodels.yaml"
MANAGER = "tests"


@pytest.fixture(scope="session")
def api() -> Iterator[kubernetes.client.ApiClient]:
    """A client of the cluster that KUBECONFIG names, as its administrator."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG names no cluster: run `make cluster-test`")
    kubernetes.config.load_kube_config()
    with kubernetes.client.ApiClient() as client:
        yield client


@pytest.fixture(scope="session")
def crd(api: kubernetes.client.ApiClient, wait_until: Callable[..., Any]) -> None:
    """The definition of InferenceModel, as committed, is served."""
    definitions = kubernetes.client.ApiextensionsV1Api(api)
    body = yaml.safe_load(CRD.read_text())
    name = body["metadata"]["name"]
    definitions.patch_custom_resource_definition(
        name,
        body,
        field_manager=MANAGER,
        force=True,
        _content_type="application/apply-patch+yaml",
    )

    def is_served() -> bool:
        status = definitions.read_custom_resource_definition(name).status
        return any(c.type == "Established" and c.status == "True" for c in status.conditions or [])

    wait_until(is_served)


@pytest.fixture
def make_namespace(api: kubernetes.client.ApiClient, crd: None) -> Iterator[Callable[..., str]]:
    """Makes a namespace, with the label of an owner if one is given; its name."""
    core = kubernetes.client.CoreV1Api(api)
    made: list[str] = []

    def make(owner: str | None = None) -> str:
        name = f"test-{secrets.token_hex(4)}"
        labels = {LABEL_OWNER: owner} if owner else {}
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        made.append(name)
        return name

    yield make
    for name in made:
        try:
            core.delete_namespace(name, propagation_policy="Background")
        except ApiException as error:
            if error.status != 404:
                raise


@pytest.fixture
def prefix(api: kubernetes.client.ApiClient, crd: None) -> Iterator[str]:
    """Of the namespaces that the gateway makes in this test; they go with it."""
    prefix = f"gw-{secrets.token_hex(4)}-"
    yield prefix
    core = kubernetes.client.CoreV1Api(api)
    for found in core.list_namespace(label_selector=LABEL_OWNER).items:
        if found.metadata.name.startswith(prefix):
            core.delete_namespace(found.metadata.name, propagation_policy="Background")
