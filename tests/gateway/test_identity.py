"""What belongs to whom: accounts own by their id, and a name registered again inherits nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import psycopg2
import pytest

from inference_gateway.settings import Settings

PERSON = {"username": "ada", "email": "ada@example.com", "password": "password123"}


async def register(client: httpx.AsyncClient) -> dict[str, str]:
    """Headers of the account, which is made."""
    assert (await client.post("/v1/auth/register", json=PERSON)).status_code == 201
    form = {key: PERSON[key] for key in ("username", "password")}
    token = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def sql(settings: Settings) -> Any:
    connection = psycopg2.connect(settings.database_url)
    connection.autocommit = True
    yield connection.cursor().execute
    connection.close()


async def test_a_name_registered_again_inherits_no_predictions(
    client: httpx.AsyncClient, sql: Any, make_model: Callable[..., Any]
) -> None:
    make_model("bob", "public", visibility="public")
    headers = await register(client)
    body = {"version": "bob/public", "input": {"prompt": "secret"}}
    keyed = {"Idempotency-Key": "key"}
    first = (await client.post("/v1/predictions", json=body, headers=headers | keyed)).json()
    sql("DELETE FROM users WHERE username = 'ada'")

    headers = await register(client)
    assert (await client.get("/v1/predictions", headers=headers)).json()["results"] == []
    url = f"/v1/predictions/{first['id']}"
    assert (await client.get(url, headers=headers)).status_code == 404
    assert (await client.get(f"{url}/stream", headers=headers)).status_code == 404
    assert (await client.post(f"{url}/cancel", headers=headers)).status_code == 404
    again = await client.post("/v1/predictions", json=body, headers=headers | keyed)
    assert again.json()["id"] != first["id"]
