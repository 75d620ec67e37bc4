"""The chart, installed on a real cluster with the real images: `make e2e`.

KUBECONFIG names the cluster; this machine is its node. Images are those that `tests/cluster/images`
has pushed. E2E_OPTIONS holds more options for helm. With E2E_SHARED=1 the release keeps to
namespaces of its own, so that others can work on the same cluster.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from release import Account, Release, apply, host_volume, kubectl
from traffic import Traffic

from inference_contract.pods import LABEL_OWNER

VALUES = Path(__file__).with_name("values.yaml")
VOLUMES = Path(__file__).with_name("volumes.yaml")
CODE = Path(__file__).parents[1] / "embedded" / "models"
CRD = "inferencemodels.inference-server.dev"
NAME = "inference-e2e"
ACCOUNTS = [f"e2e-{number}" for number in range(1, 19)]
STORAGE_CLASS = NAME

Volume = Callable[[str, Path], str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back on all the others comes after them, and what removes the release is last."""
    last = ["test_rights.py", "test_removal.py"]
    items.sort(key=lambda item: last.index(item.path.name) if item.path.name in last else -1)


@contextmanager
def _data_volumes(folder: Path) -> Iterator[None]:
    """For PostgreSQL and Valkey, whose pods die in these tests and keep what they stored."""
    volumes = []
    for number in range(2):
        place = folder / str(number)
        place.mkdir()
        place.chmod(0o777)
        volumes.append(host_volume(f"{NAME}-data-{number}", place, STORAGE_CLASS))
    apply(*volumes)
    try:
        yield
    finally:
        kubectl("delete", "pv", "--ignore-not-found", *(v["metadata"]["name"] for v in volumes))


@contextmanager
def _shared(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Options of a release that looks at its own namespaces only."""
    namespaces = {f"inference-{name}": name for name in names}
    apply(
        *(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": namespace, "labels": {LABEL_OWNER: owner}},
            }
            for namespace, owner in namespaces.items()
        )
    )
    try:
        yield "--set", f"watchNamespaces={{{','.join(namespaces)}}}"
    finally:
        kubectl("delete", "namespace", "--ignore-not-found", *namespaces)


@contextmanager
def _alone(names: list[str]) -> Iterator[tuple[str, ...]]:
    try:
        yield ()
    finally:
        namespaces = [f"inference-{name}" for name in names]
        kubectl("delete", "namespace", "--ignore-not-found", *namespaces)


@pytest.fixture(scope="session")
def release(
    wait_until: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    """Installed for the first time."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("KUBECONFIG names no cluster: run `make e2e`")
    # Tests of the API server may have applied the definition before us: then it is not Helm's.
    is_there = "inferencemodels" in kubectl("get", "crd", "--ignore-not-found", "-o", "name", CRD)
    values = ["--values", str(VALUES), "--values", str(VOLUMES)]
    options = [*values, *shlex.split(os.environ.get("E2E_OPTIONS", ""))]
    options += ["--set", "crds.install=false"] if is_there else []
    scope = _shared if os.environ.get("E2E_SHARED") else _alone
    with scope(ACCOUNTS) as narrow, _data_volumes(tmp_path_factory.mktemp("data")):
        made = Release(NAME, list(ACCOUNTS), wait_until, (*options, *narrow))
        try:
            made.install()
            yield made
        finally:
            for account in made.accounts:
                account.api.close()
            made.uninstall()


@pytest.fixture(scope="module")
def account(release: Release) -> Account:
    """Of the tests of one file, with a namespace."""
    account = release.account()
    account.make_namespace()
    return account


@pytest.fixture(scope="module")
def volume(account: Account) -> Iterator[Volume]:
    """Makes a claim of a volume of this machine's folder, in the account's namespace."""
    made: list[str] = []

    def make(claim: str, folder: Path) -> str:
        name = f"{account.namespace}-{claim}"
        spec = {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": name,
            "storageClassName": "",
        }
        metadata = {"name": claim, "namespace": account.namespace}
        body = {"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
        apply(host_volume(name, folder), {"apiVersion": "v1", **body})
        made.append(name)
        return claim

    yield make
    for name in made:
        kubectl("delete", "pv", name, "--wait=false")


@pytest.fixture(scope="module")
def custom(volume: Volume) -> Callable[..., dict[str, Any]]:
    """The spec of a model whose class is in tests/embedded/models; small, and quick to sleep."""
    claim = volume("code", CODE)

    def spec(class_name: str, *fields: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
        engine = {"className": class_name, "parameters": parameters or {}}
        small = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
        return {
            "type": "custom",
            "source": {"pvc": {"claimName": claim}},
            "engine": engine,
            "inputSchema": {field: {"type": "string"} for field in fields},
            "pod": {"resources": small},
            "timeouts": {"drainSeconds": 20},
            **more,
        }

    return spec


@pytest.fixture(scope="module")
def echo_spec(custom: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Of a model on two pods that gives back its text in capitals, half a second later."""
    spec = custom("slow:Slow", "text", parameters={"seconds": 0.5}, minReplicas=2, maxReplicas=2)
    return {**spec, "batching": {"maxBatchSize": 4}}


@pytest.fixture(scope="module")
def echo(account: Account, echo_spec: dict[str, Any]) -> str:
    """The id of that model."""
    model = account.apply("echo", **echo_spec)
    account.until_ready("echo", timeout=120)
    return model


@pytest.fixture
def traffic(release: Release, account: Account, echo: str) -> Traffic:
    """To be entered."""
    return Traffic(release, account, echo)
