"""What is there twice in the head of a request is one list, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from inference_gateway.predictions.creating import requests

Auth = Callable[..., dict[str, str]]


async def test_of_two_authorizations_none_is_believed(
    client: httpx.AsyncClient, auth: Auth
) -> None:
    both = [*auth("ada").items(), *auth("bob").items()]
    for method, path in (("GET", "/v1/account"), ("POST", "/v1/predictions")):
        reply = await client.request(method, path, headers=both)
        assert reply.status_code == 400
        assert reply.json()["detail"] == "there are two Authorization headers: send one"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=1&limit=2", "query.limit"),
        ("limit=1&limit=1", "query.limit"),
        ("limit=1&limi%74=2", "query.limit"),
        ("limit&a=1&limit", "query.limit"),
        ("unknown+name=1&unknown%20name=2", "query.unknown name"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/models", "/health/live"])
async def test_a_parameter_that_is_there_twice_is_named(
    client: httpx.AsyncClient, auth: Auth, path: str, query: str, field: str
) -> None:
    reply = await client.get(f"{path}?{query}", headers=auth("ada"))
    assert reply.status_code == 400
    assert reply.json()["errors"] == [{"field": field, "message": "is there twice"}]


@pytest.mark.parametrize("query", ["limit=1&limits=1", "&&limit=1&&", "limit=1&Limit=2"])
async def test_other_parameters_are_no_second_one(
    client: httpx.AsyncClient, auth: Auth, query: str
) -> None:
    reply = await client.get(f"/v1/predictions?{query}", headers=auth("ada"))
    assert reply.status_code == 200


async def test_thousands_of_parameters_are_not_read(client: httpx.AsyncClient) -> None:
    reply = await client.get("/health/live?" + "&".join(f"%41{n:x}" for n in range(1100)))
    assert reply.status_code == 400
    assert reply.json()["detail"] == "the URL has more than 100 parameters"


@pytest.mark.parametrize("name", ["Idempotency-Key", "Cancel-After"])
async def test_a_header_that_is_there_twice_is_named(
    client: httpx.AsyncClient, auth: Auth, name: str
) -> None:
    headers = [*auth("ada").items(), (name, "1s"), (name, "2s")]
    for path in ("/v1/predictions", "/v1/predictions/multipart", "/v1/models/a/b/predictions"):
        reply = await client.post(path, content=b"{}", headers=headers)
        assert reply.status_code == 422
        assert reply.json()["errors"] == [{"field": name, "message": "is there twice"}]


def test_two_of_prefer_are_one_list() -> None:
    given = [(b"prefer", b"wait=3"), (b"prefer", b"return=minimal")]
    assert requests.parse_headers(dict(given), given).wait_seconds == 3


async def test_two_of_accept_are_one_list(client: httpx.AsyncClient, auth: Auth, echo: str) -> None:
    made = await client.post(
        "/v1/predictions", json={"model": echo, "input": {"text": "hi"}}, headers=auth("ada")
    )
    await client.post(f"/v1/predictions/{made.json()['id']}/cancel", headers=auth("ada"))
    accepted = [("Accept", "text/plain"), ("Accept", "text/event-stream")]
    reply = await client.get(
        f"/v1/predictions/{made.json()['id']}", headers=[*auth("ada").items(), *accepted]
    )
    assert reply.headers["content-type"].startswith("text/event-stream")
