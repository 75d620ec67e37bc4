"""The REST API over models in a real cluster."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import kubernetes.client
import pytest
from kubernetes.client import V1Namespace, V1ObjectMeta, V1ResourceQuota, V1ResourceQuotaSpec
from narrow import there

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION
from inference_contract.pods import LABEL_OWNER
from inference_gateway.api.app import create_app, front
from inference_gateway.settings import GatewaySettings

SHORT = {"name": "Echo", "model_type": "text-generation", "model_path": "gpt2"}


@pytest.fixture
async def client(
    database_url: str, redis_url: str, prefix: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = GatewaySettings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        secret_key="a-secret-of-the-tests-with-more-than-32-bytes",
        kubeconfig=os.environ["KUBECONFIG"],
        owner_namespace_prefix=prefix,
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(front(app))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


@pytest.fixture
def account(client: httpx.AsyncClient) -> Callable[[str], Any]:
    """Registers somebody whose name begins so; their name, and headers of theirs."""

    async def make(name: str) -> tuple[str, dict[str, str]]:
        name = f"{name}-{secrets.token_hex(4)}"
        person = {"username": name, "email": f"{name}@example.com", "password": "password123"}
        assert (await client.post("/v1/auth/register", json=person)).status_code == 201
        token = (await client.post("/v1/auth/token", data=person)).json()["access_token"]
        return name, {"Authorization": f"Bearer {token}"}

    return make


async def test_health_names_kubernetes(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["dependencies"]["kubernetes"] == {"status": "ok", "message": "answers"}


async def test_owners_do_not_see_each_other(
    client: httpx.AsyncClient,
    account: Callable[[str], Any],
    prefix: str,
    api: kubernetes.client.ApiClient,
) -> None:
    (ada, as_ada), (bob, as_bob) = await account("ada"), await account("bob")
    for headers in (as_ada, as_bob):
        made = await client.post("/v1/models", headers=headers, json=SHORT)
        assert made.status_code == 201

    async def seen(headers: dict[str, str]) -> list[str]:
        page = (await client.get("/v1/models", headers=headers)).json()
        return [m["id"] for m in page["results"] if m["owner"] in (ada, bob)]

    assert await seen(as_ada) == [f"{ada}/echo"]
    assert await seen(as_bob) == [f"{bob}/echo"]
    assert await seen({}) == []
    url = f"/v1/models/{ada}/echo"
    assert (await client.get(url, headers=as_bob)).status_code == 404
    assert (await client.delete(url, headers=as_bob)).status_code == 404
    prediction = {"model": f"{ada}/echo", "input": {"prompt": "x"}}
    refused = await client.post("/v1/predictions", headers=as_bob, json=prediction)
    assert refused.status_code == 404
    custom = kubernetes.client.CustomObjectsApi(api)
    listed: Any = custom.list_namespaced_custom_object(GROUP, VERSION, f"{prefix}{ada}", PLURAL)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["echo"]


async def test_a_model_from_first_to_last(
    client: httpx.AsyncClient, account: Callable[[str], Any]
) -> None:
    ada, headers = await account("ada")
    url = f"/v1/models/{ada}/echo"
    document = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceModel",
        "metadata": {"name": "echo", "namespace": ada},
        "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
    }
    assert (await client.put(url, headers=headers, json=document)).status_code == 201
    assert (await client.post("/v1/models", headers=headers, json=SHORT)).status_code == 409
    document["spec"]["version"] = "2"  # type: ignore[index]
    replaced = await client.put(url, headers=headers, json=document)
    assert (replaced.status_code, replaced.json()["version"]) == (200, "2")
    assert (await client.get(url, headers=headers)).json()["version"] == "2"
    assert (await client.delete(url, headers=headers)).status_code == 204
    assert (await client.get(url, headers=headers)).status_code == 404


async def test_what_a_quota_refuses_reaches_the_caller(
    client: httpx.AsyncClient,
    account: Callable[[str], Any],
    make_namespace: Callable[..., str],
    api: kubernetes.client.ApiClient,
    wait_until: Callable[..., Any],
) -> None:
    ada, headers = await account("ada")
    namespace = make_namespace(ada)
    core = kubernetes.client.CoreV1Api(api)
    hard = {f"count/{PLURAL}.{GROUP}": "0"}
    body = V1ResourceQuota(metadata=V1ObjectMeta(name="none"), spec=V1ResourceQuotaSpec(hard=hard))
    core.create_namespaced_resource_quota(namespace, body)
    wait_until(lambda: there(core.read_namespaced_resource_quota("none", namespace).status).hard)
    refused = await client.post("/v1/models", headers=headers, json=SHORT)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert "exceeded quota: none" in refused.json()["detail"]


async def test_a_namespace_that_is_taken_is_a_conflict(
    client: httpx.AsyncClient,
    account: Callable[[str], Any],
    prefix: str,
    api: kubernetes.client.ApiClient,
) -> None:
    ada, headers = await account("ada")
    core = kubernetes.client.CoreV1Api(api)
    core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=f"{prefix}{ada}")))
    refused = await client.post("/v1/models", headers=headers, json=SHORT)
    assert refused.status_code == 409
    assert f"kubectl label namespace {prefix}{ada} {LABEL_OWNER}={ada}" in refused.json()["detail"]
    core.delete_namespace(f"{prefix}{ada}")
