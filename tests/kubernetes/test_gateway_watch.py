"""The gateway's watch of a real cluster, when the connection or the API server goes away."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import kubernetes.client
import pytest
from proxy import Proxy

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION, InferenceModel
from inference_gateway.health_state import HealthState
from inference_gateway.models.kubernetes import api as kubernetes_api
from inference_gateway.models.kubernetes.api import KubernetesApi
from inference_gateway.models.kubernetes.cache import KubernetesWatch
from inference_gateway.models.kubernetes.store import KubernetesModelStore
from inference_gateway.models.store import StoreUnavailable
from inference_gateway.settings import GatewaySettings

WaitUntil = Callable[..., Any]
Apply = Callable[..., None]


@pytest.fixture
def proxied(proxy: Proxy) -> KubernetesApi:
    configuration = kubernetes_api.configuration(os.environ["KUBECONFIG"])
    configuration.tls_server_name = urlsplit(configuration.host).hostname
    configuration.host = f"https://127.0.0.1:{proxy.port}"
    return KubernetesApi(configuration)


@pytest.fixture
def store(proxied: KubernetesApi) -> Iterator[KubernetesModelStore]:
    """Not started, and behind the proxy."""
    settings = GatewaySettings(
        _env_file=None, database_url="postgresql:///none", secret_key="x" * 32
    )
    store = KubernetesModelStore(proxied, settings)
    yield store
    store.stop()


@pytest.fixture
def owner() -> str:
    return f"ada-{secrets.token_hex(4)}"


@pytest.fixture
def apply(
    owner: str, make_namespace: Callable[..., str], api: kubernetes.client.ApiClient
) -> Apply:
    namespace = make_namespace(owner)
    custom = kubernetes.client.CustomObjectsApi(api)

    def apply(name: str) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceModel",
            "metadata": {"name": name},
            "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
        }
        custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)

    return apply


def state(store: KubernetesModelStore) -> HealthState:
    return store.dependencies()["kubernetes"].status


def test_a_watch_that_is_cut_misses_nothing(
    store: KubernetesModelStore, proxy: Proxy, owner: str, apply: Apply, wait_until: WaitUntil
) -> None:
    store.start()
    apply("before")
    wait_until(lambda: f"{owner}/before" in store.list())
    before = store.list()[f"{owner}/before"]
    connections = proxy.connections
    proxy.is_up = False
    proxy.cut()
    apply("meanwhile")
    wait_until(lambda: state(store) is HealthState.DEGRADED)
    assert store.list()[f"{owner}/before"] is before
    proxy.is_up = True
    wait_until(lambda: f"{owner}/meanwhile" in store.list())
    wait_until(lambda: state(store) is HealthState.OK)
    assert store.list()[f"{owner}/before"] is before
    assert proxy.connections > connections
    apply("after")
    wait_until(lambda: f"{owner}/after" in store.list(), timeout=1)


def test_it_starts_before_the_api_server(
    store: KubernetesModelStore, proxy: Proxy, owner: str, apply: Apply, wait_until: WaitUntil
) -> None:
    proxy.is_up = False
    store.start()
    assert store.list() == {}
    assert state(store) is HealthState.UNAVAILABLE
    model = InferenceModel.model_validate(
        {
            "metadata": {"name": "echo", "namespace": owner},
            "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
        }
    )
    with pytest.raises(StoreUnavailable, match="has not answered yet"):
        store.create(model)
    apply("other")
    proxy.is_up = True
    wait_until(lambda: f"{owner}/other" in store.list())
    assert state(store) is HealthState.OK
    proxy.is_up = False
    proxy.cut()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.create(model)
    assert f"{owner}/other" in store.list()


def test_a_version_that_the_api_server_forgot_is_listed_anew(
    owner: str, apply: Apply, wait_until: WaitUntil
) -> None:
    apply("echo")
    api = KubernetesApi(kubernetes_api.configuration(os.environ["KUBECONFIG"]))
    path = f"/apis/{GROUP}/{VERSION}/{PLURAL}"
    with (
        pytest.raises(kubernetes_api.KubernetesRefused) as refused,
        api.watch(path, {}, "1") as events,
    ):
        next(events)
    assert refused.value.is_gone
    watcher = KubernetesWatch(api, path, {}, version="1")
    watcher.start()
    wait_until(lambda: watcher.is_synced)
    apply("second")

    def names() -> set[str]:
        return {found["metadata"]["name"] for found in watcher.cache.all()}

    wait_until(lambda: names() >= {"echo", "second"}, timeout=1)
    watcher.stop()
    api.close()
    assert watcher.join(2)


def test_a_stop_ends_watches_that_hear_nothing(
    store: KubernetesModelStore,
    proxied: KubernetesApi,
    crd: None,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.start()
    wait_until(lambda: proxied.open_watches() == 2)
    store.stop()
    assert "a watch has not ended" not in caplog.text
    assert proxied.open_watches() == 0
