"""Every route that the API documents: without a token, and with somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import psycopg2
import pytest
from fastapi import FastAPI

Headers = Callable[..., dict[str, str]]
Call = tuple[str, str]

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/token"),
    ("GET", "/v1/models"),
}
PREDICTION = "01890000-0000-7000-8000-000000000001"
TOKEN = "00000000-0000-4000-8000-000000000002"
NAMES = {
    "owner": "ada",
    "name": "echo",
    "prediction_id": PREDICTION,
    "token_id": TOKEN,
    "username": "ada",
}
DOCUMENT = {
    "metadata": {"name": "echo", "namespace": "ada"},
    "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
}


def calls(app: FastAPI) -> list[Call]:
    found = [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    ]
    assert ("POST", "/v1/predictions") in found
    return sorted(found)


def send(client: httpx.AsyncClient, call: Call, headers: dict[str, str]) -> Any:
    """With a body that is as good as it gets, so that the caller is what is wrong."""
    method, path = call
    body: dict[str, Any] | None = None
    if method in ("POST", "PUT"):
        is_model = (method, path) == ("PUT", "/v1/models/{owner}/{name}")
        body = DOCUMENT if is_model else {"version": "ada/echo", "input": {"prompt": "x"}}
    return client.request(method, path.format(**NAMES), json=body, headers=headers)


@pytest.fixture
def things_of_ada(database_url: str, auth: Headers, make_model: Callable[..., Any]) -> None:
    auth("ada")
    make_model("ada", "echo")
    with closing(psycopg2.connect(database_url)) as connection, connection as session:
        cursor = session.cursor()
        cursor.execute(
            "INSERT INTO predictions (id, owner, model, version, token, input, deadline)"
            " VALUES (%s, md5('ada')::uuid, 'ada/echo', '1', 't', '{}', now() + interval '1 day')",
            (PREDICTION,),
        )
        cursor.execute(
            "INSERT INTO api_tokens (id, user_id, name, sha256)"
            " SELECT %s, id, 'ci', 'x' FROM users WHERE username = 'ada'",
            (TOKEN,),
        )


@pytest.mark.usefixtures("things_of_ada")
async def test_without_a_token(client: httpx.AsyncClient, app: FastAPI) -> None:
    answers = {call: (await send(client, call, {})).status_code for call in calls(app)}
    private = {call: code for call, code in answers.items() if call not in PUBLIC}
    # Models can be public: to those without a token a private one is not there.
    expected = dict.fromkeys(private, 401) | {("GET", "/v1/models/{owner}/{name}"): 404}
    assert private == expected


@pytest.mark.usefixtures("things_of_ada")
async def test_with_a_token_that_is_not_valid(client: httpx.AsyncClient, app: FastAPI) -> None:
    headers = {"Authorization": "Bearer nonsense"}
    private = [call for call in calls(app) if call not in PUBLIC]
    answers = {call: (await send(client, call, headers)).status_code for call in private}
    assert answers == dict.fromkeys(private, 401)


@pytest.mark.usefixtures("things_of_ada")
async def test_with_another_users_token(
    client: httpx.AsyncClient, app: FastAPI, auth: Headers
) -> None:
    theirs = [call for call in calls(app) if "{" in call[1] or call[1] == "/v1/users"]
    theirs += [("POST", "/v1/predictions")]
    answers = {call: (await send(client, call, auth("bob"))).status_code for call in theirs}
    # Whose name it is in the URL of a PUT, its caller knows anyway.
    expected = dict.fromkeys(theirs, 404) | {("PUT", "/v1/models/{owner}/{name}"): 403}
    expected |= {call: 403 for call in theirs if call[1].startswith("/v1/users")}
    assert answers == expected
