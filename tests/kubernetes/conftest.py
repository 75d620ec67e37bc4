"""Tests against a real API server: `make cluster-test` brings one up and runs them.

Each test works in namespaces of its own, which go with it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes.client
import kubernetes.config
import pytest
import yaml
from cluster_operator import OWNER, ClusterOperator
from kubernetes.client import (
    V1HostPathVolumeSource,
    V1Namespace,
    V1ObjectMeta,
    V1PersistentVolume,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1PersistentVolumeSpec,
    V1VolumeResourceRequirements,
)
from kubernetes.client.exceptions import ApiException
from narrow import there
from proxy import Proxy

from inference_contract.pods import LABEL_OWNER
from inference_gateway.models.kubernetes import api as kubernetes_api

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "inferencemodels.yaml"
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
        return any(
            c.type == "Established" and c.status == "True" for c in there(status).conditions or []
        )

    wait_until(is_served)


@pytest.fixture
def make_namespace(api: kubernetes.client.ApiClient, crd: None) -> Iterator[Callable[..., str]]:
    """Makes a namespace, with the label of an owner if one is given; its name."""
    core = kubernetes.client.CoreV1Api(api)
    made: list[str] = []

    def make(owner: str | None = None) -> str:
        name = f"test-{secrets.token_hex(4)}"
        labels = {LABEL_OWNER: owner} if owner else {}
        core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name, labels=labels)))
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
        name = there(there(found.metadata).name)
        if name.startswith(prefix):
            core.delete_namespace(name, propagation_policy="Background")


@pytest.fixture
def operator(
    api: kubernetes.client.ApiClient,
    make_namespace: Callable[..., str],
    tmp_path: Path,
    redis_url: str,
    wait_until: Callable[..., Any],
) -> Iterator[ClusterOperator]:
    operator = ClusterOperator(api, make_namespace(OWNER), tmp_path, redis_url, wait_until)
    yield operator
    operator.close()


@pytest.fixture
def runner_image() -> str:
    """The real runner's, if the cluster's registry has it."""
    return _image("inference-runner")


@pytest.fixture
def valkey_image() -> str:
    return _image("valkey")


def _image(name: str) -> str:
    url = f"http://localhost:5000/v2/{name}/manifests/dev"
    accept = "application/vnd.oci.image.manifest.v1+json"
    try:
        is_there = httpx.head(url, headers={"Accept": accept}).is_success
    except httpx.TransportError:
        is_there = False
    if not is_there:
        pytest.skip(f"the cluster's registry has no {name}:dev")
    return f"localhost:5000/{name}:dev"


@pytest.fixture
def make_volume(operator: ClusterOperator) -> Iterator[Callable[[str], str]]:
    """Makes a claim of a volume that holds a folder of the repository; its name."""
    made: list[str] = []

    def make(folder: str) -> str:
        claim = Path(folder).name
        name = f"{operator.namespace}-{claim}"
        size, modes = {"storage": "1Mi"}, ["ReadOnlyMany"]
        volume = V1PersistentVolumeSpec(
            access_modes=modes,
            storage_class_name="",
            capacity=size,
            host_path=V1HostPathVolumeSource(path=str(ROOT / folder)),
        )
        operator.core.create_persistent_volume(
            V1PersistentVolume(metadata=V1ObjectMeta(name=name), spec=volume)
        )
        made.append(name)
        spec = V1PersistentVolumeClaimSpec(
            access_modes=modes,
            storage_class_name="",
            resources=V1VolumeResourceRequirements(requests=size),
            volume_name=name,
        )
        body = V1PersistentVolumeClaim(metadata=V1ObjectMeta(name=claim), spec=spec)
        operator.core.create_namespaced_persistent_volume_claim(operator.namespace, body)
        return claim

    yield make
    for name in made:
        operator.core.delete_persistent_volume(name)


@pytest.fixture
def echo_volume(make_volume: Callable[[str], str]) -> str:
    return make_volume("crds/examples/echo")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    target = urlsplit(kubernetes_api.configuration(os.environ["KUBECONFIG"]).host)
    assert target.hostname is not None
    with closing(Proxy(target.hostname, target.port or 443)) as proxy:
        yield proxy
