"""What becomes of predictions whose model is deleted without the gateway: by kubectl, with its
namespace, or while nobody watches."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client
import psycopg2
import pytest
import yaml
from proxy import Proxy

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_OWNER
from inference_gateway.api.app import create_app, front
from inference_gateway.auth import accounts
from inference_gateway.auth.jwt import AccessTokens
from inference_gateway.auth.passwords import UNUSABLE
from inference_gateway.cleanup import deleted_models
from inference_gateway.health_state import Dependency, HealthState
from inference_gateway.models.kubernetes import store as kubernetes_store
from inference_gateway.models.kubernetes.cache import KubernetesWatch, ObjectCache
from inference_gateway.settings import GatewaySettings

SECRET = "a-secret-of-the-tests-with-more-than-32-bytes"
GONE = ("canceled", "model_deleted", "The model was deleted.")
WAITS = ("starting", None, None)


class Gateway:
    """A gateway that runs, and what is stored."""

    def __init__(self, app: Any, client: httpx.AsyncClient, settings: GatewaySettings) -> None:
        self.services = app.state.services
        self._client = client
        self._database = settings.database_url

    async def predict(self, model: str) -> httpx.Response:
        owner = model.partition("/")[0]
        account = accounts.find(self.services.engine, owner) or accounts.create(
            self.services.engine, owner, f"{owner}@example.com", UNUSABLE
        )
        token = AccessTokens(SECRET, minutes=15).issue(str(account.id), owner)
        body = {"model": model, "input": {"prompt": "x"}}
        headers = {"Authorization": f"Bearer {token}"}
        return await self._client.post("/v1/predictions", json=body, headers=headers)

    def ends(self) -> list[tuple[str | None, ...]]:
        with closing(psycopg2.connect(self._database)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT status, error_code, error FROM predictions ORDER BY id")
            return cursor.fetchall()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - Kubernetes sets no asyncio.Event
                await asyncio.sleep(0.02)

    def kubernetes(self) -> HealthState:
        found: Dependency = self.services.catalog.store.dependencies()["kubernetes"]
        return found.status

    def knows(self, model: str) -> bool:
        return self.services.catalog.entry(model) is not None

    async def look(self) -> None:
        """Without grace."""
        await asyncio.to_thread(self.services.catalog.refresh)
        await asyncio.to_thread(self.services.deleted_models.step)


@pytest.fixture
def settings(database_url: str, redis_url: str, prefix: str) -> GatewaySettings:
    return GatewaySettings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        secret_key=SECRET,
        kubeconfig=os.environ["KUBECONFIG"],
        owner_namespace_prefix=prefix,
    )


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(front(app)), base_url="http://x") as client,
    ):
        yield Gateway(app, client, settings)


@pytest.fixture
def owner() -> str:
    return f"ada-{secrets.token_hex(4)}"


class Cluster:
    """The owner's namespace, and one model `echo` in it, as kubectl sees them."""

    def __init__(self, api: kubernetes.client.ApiClient, namespace: str) -> None:
        self.core = kubernetes.client.CoreV1Api(api)
        self._custom = kubernetes.client.CustomObjectsApi(api)
        self.namespace = namespace

    def apply(self, **metadata: Any) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceModel",
            "metadata": {"name": "echo", **metadata},
            "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
        }
        place = GROUP, VERSION, self.namespace, PLURAL
        self._custom.create_namespaced_custom_object(*place, body)

    def delete(self) -> None:
        place = GROUP, VERSION, self.namespace, PLURAL, "echo"
        self._custom.delete_namespaced_custom_object(*place)

    def release(self) -> None:
        """Takes the finalizers off."""
        place = GROUP, VERSION, self.namespace, PLURAL, "echo"
        self._custom.patch_namespaced_custom_object(
            *place,
            {"metadata": {"finalizers": None}},
            _content_type="application/merge-patch+json",
        )

    def label(self, owner: str | None) -> None:
        self.core.patch_namespace(self.namespace, {"metadata": {"labels": {LABEL_OWNER: owner}}})


@pytest.fixture
def cluster(
    api: kubernetes.client.ApiClient, make_namespace: Callable[..., str], owner: str
) -> Cluster:
    return Cluster(api, make_namespace(owner))


@asynccontextmanager
async def waiting(settings: GatewaySettings, model: str) -> AsyncIterator[Gateway]:
    """A gateway with one prediction that waits for the model."""
    async with running(settings) as gateway:
        await gateway.until(lambda: gateway.knows(model))
        assert (await gateway.predict(model)).status_code == 201
        yield gateway


@pytest.mark.parametrize("way", ["model", "namespace"])
async def test_a_deletion_by_kubectl_cancels_what_waits(
    settings: GatewaySettings, cluster: Cluster, owner: str, way: str
) -> None:
    cluster.apply()
    async with waiting(settings, f"{owner}/echo") as gateway:
        if way == "model":
            cluster.delete()
        else:
            cluster.core.delete_namespace(cluster.namespace)
        began = time.monotonic()
        await gateway.until(lambda: gateway.ends() == [GONE])
        print(f"canceled {time.monotonic() - began:.1f} s after the {way} was deleted")
        assert (await gateway.predict(f"{owner}/echo")).status_code == 404


@pytest.mark.parametrize("way", ["model", "namespace"])
async def test_so_does_one_while_the_gateway_is_away(
    settings: GatewaySettings,
    cluster: Cluster,
    owner: str,
    way: str,
    wait_until: Callable[..., Any],
) -> None:
    cluster.apply()
    async with waiting(settings, f"{owner}/echo"):
        pass
    if way == "model":
        cluster.delete()
    else:
        cluster.core.delete_namespace(cluster.namespace)
        name = f"metadata.name={cluster.namespace}"
        wait_until(lambda: not cluster.core.list_namespace(field_selector=name).items)
    async with running(settings) as gateway:
        await gateway.until(lambda: gateway.ends() == [GONE])


@pytest.fixture
def held(cluster: Cluster) -> Iterator[None]:
    """The model's deletion takes as long as the test."""
    cluster.apply(finalizers=["inference-server.dev/tests"])
    yield
    cluster.release()


async def test_a_model_that_is_being_deleted_takes_nothing_more(
    settings: GatewaySettings, cluster: Cluster, owner: str, held: None
) -> None:
    async with waiting(settings, f"{owner}/echo") as gateway:
        cluster.delete()
        await gateway.until(lambda: gateway.ends() == [GONE])
        assert (await gateway.predict(f"{owner}/echo")).status_code == 404


async def test_a_model_that_is_replaced_keeps_its_queue(
    settings: GatewaySettings, cluster: Cluster, owner: str
) -> None:
    cluster.apply()
    async with waiting(settings, f"{owner}/echo") as gateway:
        before = gateway.services.catalog.entry(f"{owner}/echo")
        cluster.delete()
        cluster.apply()
        await gateway.until(lambda: gateway.services.catalog.entry(f"{owner}/echo") != before)
        await gateway.look()
        assert gateway.ends() == [WAITS]


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted_models, "GRACE_SECONDS", 0)


@pytest.fixture
def through_proxy(settings: GatewaySettings, proxy: Proxy, tmp_path: Path) -> GatewaySettings:
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["tls-server-name"] = httpx.URL(cluster["server"]).host
    cluster["server"] = f"https://127.0.0.1:{proxy.port}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return settings.model_copy(update={"kubeconfig": str(path)})


async def test_without_the_api_server_nothing_is_canceled(
    through_proxy: GatewaySettings, proxy: Proxy, cluster: Cluster, owner: str, no_grace: None
) -> None:
    """Neither by a gateway that loses it, nor by one that starts without."""
    cluster.apply()

    def cut() -> None:
        proxy.is_up = False
        proxy.cut()

    async with waiting(through_proxy, f"{owner}/echo") as gateway:
        cut()
        cluster.delete()
        await gateway.until(lambda: gateway.kubernetes() != HealthState.OK)
        await gateway.look()
        assert gateway.ends() == [WAITS]
    async with running(through_proxy) as gateway:
        await gateway.look()
        assert gateway.ends() == [WAITS]
        proxy.is_up = True
        await gateway.until(lambda: gateway.ends() == [GONE])


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[ObjectCache]:
    """Those of the gateways that start from now on."""
    made: list[ObjectCache] = []

    class Watch(KubernetesWatch):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self.cache)

    monkeypatch.setattr(kubernetes_store, "KubernetesWatch", Watch)
    return made


async def test_a_cache_that_lags_behind_cancels_nothing(
    settings: GatewaySettings,
    cluster: Cluster,
    owner: str,
    no_grace: None,
    caches: list[ObjectCache],
) -> None:
    """Another gateway made the model, and took a prediction: this one has not seen it yet."""
    cluster.apply()
    async with waiting(settings, f"{owner}/echo") as gateway:
        for cache in caches:
            cache.delete(cluster.namespace, "echo")
        await gateway.look()
        assert not gateway.knows(f"{owner}/echo")
        assert gateway.ends() == [WAITS]


async def test_a_label_that_is_taken_off_cancels_nothing(
    settings: GatewaySettings, cluster: Cluster, owner: str, no_grace: None
) -> None:
    cluster.apply()
    async with waiting(settings, f"{owner}/echo") as gateway:
        cluster.label(None)
        await gateway.until(lambda: not gateway.knows(f"{owner}/echo"))
        await gateway.look()
        assert gateway.ends() == [WAITS]
    async with running(settings) as gateway:
        await gateway.look()
        assert gateway.ends() == [WAITS]
        cluster.label(owner)
        await gateway.until(lambda: gateway.knows(f"{owner}/echo"))
        assert gateway.ends() == [WAITS]


async def test_a_gateway_of_other_namespaces_cancels_nothing(
    settings: GatewaySettings,
    cluster: Cluster,
    owner: str,
    no_grace: None,
    make_namespace: Callable[..., str],
) -> None:
    """While WATCH_NAMESPACES changes there are two kinds of gateways."""
    cluster.apply()
    narrow = settings.model_copy(update={"watch_namespaces": make_namespace("bob")})
    async with waiting(settings, f"{owner}/echo"), running(narrow) as gateway:
        await gateway.until(lambda: gateway.kubernetes() == HealthState.OK)
        await gateway.look()
        assert gateway.ends() == [WAITS]


async def test_a_watched_namespace_that_is_deleted_cancels_what_waits(
    settings: GatewaySettings, cluster: Cluster, owner: str
) -> None:
    cluster.apply()
    narrow = settings.model_copy(update={"watch_namespaces": cluster.namespace})
    async with waiting(narrow, f"{owner}/echo") as gateway:
        cluster.core.delete_namespace(cluster.namespace)
        await gateway.until(lambda: gateway.ends() == [GONE])
