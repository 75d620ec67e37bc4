"""A namespace that RBAC withholds from the operator, or the gateway, holds up no other."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml
from cluster_operator import OWNER, ClusterOperator
from kubernetes.client import AuthenticationV1TokenRequest, V1TokenRequestSpec
from narrow import there
from release import CHART, apply, kubectl, run

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_gateway.health_state import HealthState
from inference_gateway.models.kubernetes import api as kubernetes_api
from inference_gateway.models.kubernetes.store import REFUSED, KubernetesModelStore
from inference_gateway.settings import GatewaySettings

WaitUntil = Callable[..., Any]
OTHER = "bob"


class Rights:
    """Those that the chart gives to a component in some namespaces."""

    def __init__(self, component: str, home: str, namespaces: list[str]) -> None:
        self._home, self._release = home, f"rbac-{secrets.token_hex(4)}"
        where = (
            "--namespace",
            home,
            "--kube-version",
            "1.34.0",
            "--set",
            f"watchNamespaces={{{','.join(namespaces)}}}",
        )
        files = (
            "--show-only",
            "templates/rbac.yaml",
            "--show-only",
            "templates/serviceaccounts.yaml",
        )
        text = run("helm", "template", self._release, str(CHART), *where, *files)
        made = [found for found in yaml.safe_load_all(text) if found]
        self._objects = [found for found in made if component in found["metadata"]["name"]]
        apply(*self._objects)
        [account] = [o for o in self._objects if o["kind"] == "ServiceAccount"]
        self._account = account["metadata"]["name"]

    def kubeconfig(self, path: Path, api: kubernetes.client.ApiClient) -> Path:
        """Of the component's service account."""
        spec = V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
        body = AuthenticationV1TokenRequest(spec=spec)
        core = kubernetes.client.CoreV1Api(api)
        made = core.create_namespaced_service_account_token(self._account, self._home, body)
        of = api.configuration
        server = {"server": of.host, "certificate-authority": of.ssl_ca_cert}
        content = {
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": {"token": there(made.status).token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(content))
        return path

    def withdraw(self, namespace: str) -> None:
        kubectl("delete", "rolebinding", *self._bindings(), "--namespace", namespace)

    def give_back(self) -> None:
        apply(*self._objects)

    def close(self) -> None:
        wide = ("clusterrole", "clusterrolebinding")
        names = {o["metadata"]["name"] for o in self._objects if o["kind"].startswith("Cluster")}
        for kind in wide:
            kubectl("delete", kind, "--ignore-not-found", *names)

    def _bindings(self) -> set[str]:
        made = (o["metadata"] for o in self._objects if o["kind"] == "RoleBinding")
        return {metadata["name"] for metadata in made if metadata["namespace"] != self._home}


@pytest.fixture
def rights(make_namespace: Callable[..., str]) -> Iterator[Callable[..., Rights]]:
    made: list[Rights] = []

    def give(component: str, *namespaces: str) -> Rights:
        made.append(Rights(component, make_namespace(), list(namespaces)))
        return made[-1]

    yield give
    for found in made:
        found.close()


def test_the_operator_works_on_the_others_and_names_it(
    operator: ClusterOperator,
    make_namespace: Callable[..., str],
    rights: Callable[..., Rights],
    api: kubernetes.client.ApiClient,
    tmp_path: Path,
) -> None:
    odd = make_namespace(OTHER)
    given = rights("operator", odd, operator.namespace)
    given.withdraw(odd)
    operator.make(namespace=odd)
    operator.make()
    config = given.kubeconfig(tmp_path / "kubeconfig", api)
    operator.start(KUBECONFIG=str(config), WATCH_NAMESPACES=f"{odd},{operator.namespace}")
    operator.until_reason("ScaledToZero")
    told = f"namespace {odd} cannot be listed, and nothing is done there: inferencemodels"
    metric = f'inference_operator_refused_namespaces{{name="{odd}"}} 1.0'
    operator.until(lambda: told in operator.health())
    assert operator.metric(metric.removesuffix(" 1.0")) == 1
    assert operator.status(odd) == {}
    given.give_back()
    operator.until_reason("ScaledToZero", 60, namespace=odd)
    operator.until(lambda: "cannot be listed" not in operator.health())
    assert operator.metric("inference_operator_refused_namespaces") == 0
    given.withdraw(odd)
    operator.until(lambda: told in operator.health())
    operator.change(minReplicas=1, pod={"resources": {"requests": {"memory": "1024Ti"}}})
    operator.until_reason("Unschedulable")
    assert operator.condition(namespace=odd)["reason"] == "ScaledToZero"
    given.give_back()
    operator.until(lambda: "cannot be listed" not in operator.health(), 60)


def test_the_gateway_serves_the_others_and_names_it(
    make_namespace: Callable[..., str],
    rights: Callable[..., Rights],
    api: kubernetes.client.ApiClient,
    tmp_path: Path,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A watch that is open is not asked for its rights again before it ends.
    monkeypatch.setattr(kubernetes_api, "_WATCH_SECONDS", 2)
    odd, fine = make_namespace(OTHER), make_namespace(OWNER)
    given = rights("gateway", odd, fine)
    given.withdraw(odd)
    custom = kubernetes.client.CustomObjectsApi(api)

    def make(namespace: str, name: str) -> None:
        spec = {"type": "text-generation", "source": {"path": "/models/m"}}
        kind = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceModel"}
        body = {**kind, "metadata": {"name": name}, "spec": spec}
        custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)

    make(odd, "m")
    make(fine, "m")
    settings = GatewaySettings(
        _env_file=None,
        database_url="postgresql:///none",
        secret_key="x" * 32,
        watch_namespaces=f"{odd},{fine}",
    )
    config = given.kubeconfig(tmp_path / "kubeconfig", api)
    restricted = kubernetes_api.KubernetesApi(kubernetes_api.configuration(str(config)))
    store = KubernetesModelStore(restricted, settings)

    def is_told() -> bool:
        said = store.dependencies()["kubernetes"]
        words = "Kubernetes refuses this gateway (403): see its log: "
        is_named = (
            said.message == f"{words}the models of namespace {odd} are as they were last seen"
        )
        return said.status is HealthState.DEGRADED and is_named and _refused() == {odd: 1, fine: 0}

    def is_well() -> bool:
        return store.dependencies()["kubernetes"].status is HealthState.OK and not any(
            _refused().values()
        )

    def _refused() -> dict[str, float]:
        [metric] = REFUSED.collect()
        found = {sample.labels["name"]: sample.value for sample in metric.samples}
        return {name: found[name] for name in (odd, fine)}

    store.start()
    try:
        assert list(store.list()) == [f"{OWNER}/m"]
        assert is_told()
        given.give_back()
        wait_until(lambda: set(store.list()) == {f"{OWNER}/m", f"{OTHER}/m"}, 60)
        wait_until(is_well)
        given.withdraw(odd)
        wait_until(is_told, 30)
        make(odd, "second")
        make(fine, "second")
        wait_until(lambda: f"{OWNER}/second" in store.list())
        assert f"{OTHER}/m" in store.list()
        assert f"{OTHER}/second" not in store.list()
        given.give_back()
        wait_until(lambda: f"{OTHER}/second" in store.list(), 60)
        wait_until(is_well)
    finally:
        store.stop()
