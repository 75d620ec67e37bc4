"""The documentation pages, which must work without internet."""

from __future__ import annotations

import re

import httpx
import pytest

ASSET = re.compile(r"""(?:src|href)\s*=\s*["']([^"']+)["']""")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_every_asset_is_our_own(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.status_code == 200
    assets = ASSET.findall(page.text)
    assert assets
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in assets:
        assert (await client.get(asset)).status_code == 200


async def test_authorize_offers_a_bearer_token(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    schemes = schema["components"]["securitySchemes"]
    assert any(s["type"] == "http" and s["scheme"] == "bearer" for s in schemes.values())
    assert schema["paths"]["/v1/account"]["get"]["security"]


async def test_the_hand_made_route_is_documented(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    create = schema["paths"]["/v1/predictions"]["post"]
    assert create["security"]
    assert create["requestBody"]


async def test_metrics(client: httpx.AsyncClient) -> None:
    await client.get("/nothing")
    text = (await client.get("/metrics")).text
    assert 'inference_gateway_requests_total{method="GET",status="404"}' in text


async def test_every_operation_says_what_it_answers(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    vague = [
        (method, path, status, media_type)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        for media_type, content in answer.get("content", {}).items()
        if not {"$ref", "items", "description"} & {*content.get("schema", {})}
    ]
    assert vague == []
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_a_token_is_optional_where_it_is(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    bearer: dict[str, list[str]] = {"HTTPBearer": []}
    assert paths["/v1/models"]["get"]["security"] == [bearer, {}]
    assert paths["/v1/models"]["post"]["security"] == [bearer]


async def test_what_can_go_wrong_everywhere_is_said_everywhere(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            expected = {"400", "408", "413", "414", "431", "500", "503"}
            assert expected <= {*operation["responses"]}, path
            if operation.get("security") and not path.startswith("/health"):
                assert {"401", "429"} <= {*operation["responses"]}, path
