"""Quotas on models at the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]
MakeModel = Callable[..., InferenceModel]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    settings.quota_models = 3
    settings.quota_replicas = 10
    settings.quota_min_replicas = 2
    settings.quota_gpus = 4
    settings.quota_cache_bytes = "100Gi"
    settings.quota_api_tokens = 3
    return settings


def document(name: str, owner: str = "ada", **spec: Any) -> dict[str, Any]:
    fields = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec}
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name, "namespace": owner},
        "spec": fields,
    }


@pytest.mark.parametrize(
    ("spec", "setting", "value"),
    [
        ({"minReplicas": 3, "maxReplicas": 3}, "QUOTA_MIN_REPLICAS", "2"),
        ({"minReplicas": 1000, "maxReplicas": 1000}, "QUOTA_REPLICAS", "10"),
        ({"maxReplicas": 6, "rollout": {"maxSurge": 5}}, "QUOTA_REPLICAS", "10"),
        ({"maxReplicas": 5, "hardware": "nvidia-h100"}, "QUOTA_GPUS", "4"),
        ({"cache": {"size": "101Gi"}}, "QUOTA_CACHE_BYTES", str(100 * 2**30)),
    ],
)
async def test_one_model_that_asks_for_too_much(
    client: httpx.AsyncClient, auth: Headers, spec: dict[str, Any], setting: str, value: str
) -> None:
    refused = await client.post("/v1/models", headers=auth("ada"), json=document("m", **spec))
    assert refused.status_code == 403
    problem = refused.json()
    assert problem["title"] == "Quota exceeded"
    assert f"({setting})" in problem["detail"]
    assert f" {value} " in problem["detail"]
    put = await client.put("/v1/models/ada/m", headers=auth("ada"), json=document("m", **spec))
    assert put.status_code == 403


async def test_models_add_up_and_a_deleted_one_makes_room(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    ada = auth("ada")
    for name in ("a", "b", "c"):
        made = await client.post("/v1/models", headers=ada, json=document(name))
        assert made.status_code == 201
    refused = await client.post("/v1/models", headers=ada, json=document("d"))
    assert refused.status_code == 403
    assert "3 models (QUOTA_MODELS)" in refused.json()["detail"]
    bob = await client.post("/v1/models", headers=auth("bob"), json=document("a", "bob"))
    assert bob.status_code == 201
    await client.delete("/v1/models/ada/a", headers=ada)
    assert (await client.post("/v1/models", headers=ada, json=document("d"))).status_code == 201


async def test_requests_at_once_do_not_pass(client: httpx.AsyncClient, auth: Headers) -> None:
    ada = auth("ada")
    answers = await asyncio.gather(
        *(client.post("/v1/models", headers=ada, json=document(f"m{n}")) for n in range(12))
    )
    assert [a.status_code for a in answers].count(201) == 3


async def test_what_is_too_much_already_stays_and_may_shrink(
    client: httpx.AsyncClient, auth: Headers, make_model: MakeModel
) -> None:
    """A quota that was lowered, or documents that an administrator wrote."""
    make_model("ada", "large", maxReplicas=50)
    ada = auth("ada")
    for replicas, status in ((50, 200), (40, 200), (41, 403), (10, 200), (11, 403)):
        put = await client.put(
            "/v1/models/ada/large", headers=ada, json=document("large", maxReplicas=replicas)
        )
        assert (replicas, put.status_code) == (replicas, status)


async def test_administrators_have_no_quota(client: httpx.AsyncClient, auth: Headers) -> None:
    root = auth("root", admin=True)
    made = await client.post(
        "/v1/models", headers=root, json=document("large", minReplicas=50, maxReplicas=50)
    )
    assert made.status_code == 201


async def test_tokens_add_up_though_they_are_asked_for_at_once(
    client: httpx.AsyncClient, auth: Headers, app: FastAPI
) -> None:
    ada = auth("ada")

    async def make() -> httpx.Response:
        return await client.post("/v1/auth/tokens", headers=ada, json={"name": "ci"})

    answers = await asyncio.gather(*(make() for _ in range(9)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert len(made) == 3
    refused = next(answer for answer in answers if answer.status_code == 403)
    assert "3 API tokens (QUOTA_API_TOKENS)" in refused.json()["detail"]
    await client.delete(f"/v1/auth/tokens/{made[0].json()['id']}", headers=ada)
    assert (await make()).status_code == 201


async def test_of_revoked_tokens_as_many_are_remembered(
    client: httpx.AsyncClient, auth: Headers, sql: Callable[[str], list[Any]]
) -> None:
    ada, names = auth("ada"), [f"t{number}" for number in range(6)]
    for name in names:
        made = (await client.post("/v1/auth/tokens", headers=ada, json={"name": name})).json()
        await client.delete(f"/v1/auth/tokens/{made['id']}", headers=ada)
    await client.post("/v1/auth/tokens", headers=ada, json={"name": "last"})
    kept = sql("SELECT name FROM api_tokens ORDER BY created_at")
    assert [name for (name,) in kept] == [*names[-3:], "last"]
