"""Rates at the API: who counts against what."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]
BURST = 5


@pytest.fixture
def settings(settings: GatewaySettings, request: pytest.FixtureRequest) -> GatewaySettings:
    """One limit in force: five at once, then one in a hundred seconds."""
    for name in ("rate_per_token", "rate_per_user", "rate_per_address"):
        setattr(settings, name, 0.0)
    setattr(settings, request.param, 0.01)
    settings.rate_burst_seconds = BURST / 0.01
    settings.trusted_proxies = "127.0.0.1"
    return settings


token = pytest.mark.parametrize("settings", ["rate_per_token"], indirect=True)
user = pytest.mark.parametrize("settings", ["rate_per_user"], indirect=True)
address = pytest.mark.parametrize("settings", ["rate_per_address"], indirect=True)


async def know(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    """The first request of a token counts by its address: nobody knows it yet."""
    assert (await client.get("/v1/account", headers=headers)).status_code == 200
    return headers


async def passed(client: httpx.AsyncClient, headers: dict[str, str], path: str) -> int:
    """How many requests pass before one is refused."""
    for number in range(2 * BURST):
        answer = await client.get(path, headers=headers)
        if answer.status_code == 429:
            return number
    return 2 * BURST


@token
async def test_a_token_has_a_rate_and_another_of_the_account_its_own(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    one = auth("ada")
    made = await client.post("/v1/auth/tokens", headers=one, json={"name": "ci"})
    other = await know(client, {"Authorization": f"Bearer {made.json()['token']}"})
    assert await passed(client, one, "/v1/account") == BURST
    assert await passed(client, other, "/v1/account") == BURST


@user
async def test_an_account_has_a_rate_over_all_its_tokens(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    one = auth("ada")
    made = await client.post("/v1/auth/tokens", headers=one, json={"name": "ci"})
    other = await know(client, {"Authorization": f"Bearer {made.json()['token']}"})
    assert await passed(client, one, "/v1/account") == BURST
    assert await passed(client, other, "/v1/account") == 0
    bob = await know(client, auth("bob"))
    assert await passed(client, bob, "/v1/account") == BURST


@user
async def test_every_route_counts_and_says_what_the_limit_is(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    ada = await know(client, auth("ada"))
    await passed(client, ada, "/v1/models")
    for path in ("/v1/predictions", "/v1/predictions/multipart", "/metrics", "/v1/auth/token"):
        refused = await client.post(path, headers=ada, json={})
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"].startswith("Request was throttled. One account may make")
        assert "RATE_PER_USER" in refused.json()["detail"]
        seconds = int(refused.headers["Retry-After"])
        assert 0 < seconds <= 100
        assert refused.headers["RateLimit"] == f'"user";r=0;t={seconds}'
        assert refused.headers["RateLimit-Policy"].startswith(f'"user";q={BURST};w=')


@user
async def test_administrators_have_no_rate(client: httpx.AsyncClient, auth: Headers) -> None:
    assert await passed(client, auth("root", admin=True), "/v1/account") == 2 * BURST


@address
@pytest.mark.parametrize("path", ["/v1/models", "/", "/docs", "/metrics", "/nothing"])
@pytest.mark.parametrize("claim", [{}, {"Authorization": "Bearer inf_wrong"}])
async def test_who_says_not_who_they_are_counts_by_address(
    client: httpx.AsyncClient, path: str, claim: dict[str, str]
) -> None:
    here = {"X-Forwarded-For": "192.0.2.1", **claim}
    there = {"X-Forwarded-For": "192.0.2.2", **claim}
    assert await passed(client, here, path) == BURST
    assert await passed(client, there, path) == BURST


@address
async def test_a_caller_who_was_let_in_before_is_let_in_though_others_guess_tokens(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    known = await know(client, auth("ada"))
    wrong = {"Authorization": "Bearer inf_wrong"}
    assert await passed(client, wrong, "/v1/account") == BURST - 1
    assert (await client.get("/v1/account", headers=known)).status_code == 200


@address
async def test_registering_and_logging_in_count_too(client: httpx.AsyncClient) -> None:
    await passed(client, {}, "/")
    form = {"username": "ada", "password": "password123"}
    for path in ("/v1/auth/register", "/v1/auth/token"):
        refused = await client.post(path, data=form)
        assert refused.status_code == 429
        assert "RATE_PER_ADDRESS" in refused.json()["detail"]


@address
async def test_probes_are_never_refused(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert await passed(client, {}, path) == 2 * BURST


@address
async def test_the_server_goes_by_its_limits_in_its_metrics(client: httpx.AsyncClient) -> None:
    await passed(client, {"X-Forwarded-For": "192.0.2.1"}, "/")
    metrics = (await client.get("/metrics")).text
    assert 'inference_throttled_total{limit="address"}' in metrics
