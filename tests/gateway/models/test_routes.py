"""The routes of models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from inference_contract import layout
from inference_gateway.dispatch.usage import Usage
from inference_gateway.models.schemas import is_path, resource_name
from inference_gateway.postgres import db
from inference_gateway.settings import GatewaySettings

Headers = Callable[..., dict[str, str]]

SEED: dict[str, Any] = {
    "name": "GPT-2",
    "description": "GPT-2 text generation model",
    "model_type": "text-generation",
    "version": "1.0.0",
    "model_path": "gpt2",
    "hardware": "cpu",
    "input_schema": {
        "prompt": {"type": "string", "description": "Text prompt for generation"},
        "max_length": {
            "type": "integer",
            "description": "Maximum length of generated text",
            "default": 100,
            "minimum": 1,
            "maximum": 1000,
        },
    },
}


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "echo", "namespace": "ada"},
        "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec},
    }


async def create(
    client: httpx.AsyncClient, headers: dict[str, str], **changes: Any
) -> httpx.Response:
    return await client.post("/v1/models", headers=headers, json={**SEED, **changes})


async def test_the_seeds_own_calls(client: httpx.AsyncClient, auth: Headers, home: Path) -> None:
    made = await create(client, auth("ada"))
    assert made.status_code == 201
    assert made.headers["Location"] == "/v1/models/ada/gpt-2"
    body = made.json()
    assert body["id"] == "ada/gpt-2"
    assert body["display_name"] == "GPT-2"
    assert {key: body[key] for key in ("model_type", "version", "model_path", "hardware")} == {
        "model_type": "text-generation",
        "version": "1.0.0",
        "model_path": "gpt2",
        "hardware": "cpu",
    }
    assert body["input_schema"]["max_length"] == SEED["input_schema"]["max_length"]
    assert layout.model_file(home, "ada", "gpt-2").exists()
    got = await client.get(f"/v1/models/{body['id']}", headers=auth("ada"))
    assert got.json() == body


async def test_it_has_what_replicates_client_reads(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    body = (await create(client, auth("ada"))).json()
    expected = {"url", "owner", "name", "description", "visibility", "run_count", "latest_version"}
    assert body.keys() >= expected
    version = body["latest_version"]
    assert version.keys() == {"id", "created_at", "cog_version", "openapi_schema"}
    assert version["openapi_schema"]["components"]["schemas"].keys() == {"Input", "Output"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "!!"}, "body.name"),
        ({"model_type": "poetry"}, "body.model_type"),
        ({"colour": "red"}, "body.colour"),
        ({"hardware": "GPU!"}, "body.hardware"),
        ({"model_path": "no spaces please"}, "body.model_path"),
        ({"min_replicas": 3}, "body"),
        ({"input_schema": {"x": {"type": "poem"}}}, "body.input_schema.x.type"),
        ({"input_schema": {"x": {"type": "integer", "default": "1"}}}, "body.input_schema.x"),
        (
            {"input_schema": {"x": {"type": "array", "items": {"$ref": "http://x"}}}},
            "body.input_schema.x",
        ),
    ],
)
async def test_a_body_that_is_not_valid(
    client: httpx.AsyncClient, auth: Headers, changes: dict[str, Any], field: str
) -> None:
    refused = await create(client, auth("ada"), **changes)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_a_model_is_created_once(client: httpx.AsyncClient, auth: Headers) -> None:
    await create(client, auth("ada"))
    assert (await create(client, auth("ada"), name="gpt 2")).status_code == 409
    assert (await create(client, auth("bob"))).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"model_path": "/etc"},
        {"model_path": "../up"},
        {"model_type": "custom", "model_path": "./code", "class_name": "echo:Echo"},
    ],
)
async def test_what_only_an_administrator_may(
    client: httpx.AsyncClient, auth: Headers, changes: dict[str, Any]
) -> None:
    refused = await create(client, auth("ada"), **changes)
    assert refused.status_code == 403
    assert "only an administrator" in refused.json()["detail"]
    assert (await create(client, auth("root2", admin=True), **changes)).status_code == 201


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"path": "/etc"}},
        {"env": [{"name": "LD_PRELOAD", "value": "/tmp/x.so"}]},
        {"pod": {"image": "registry.example.com/anything"}},
    ],
)
async def test_a_document_does_not_get_around_it(
    client: httpx.AsyncClient, auth: Headers, spec: dict[str, Any]
) -> None:
    body = document(**spec)
    posted = await client.post("/v1/models", headers=auth("ada"), json=body)
    put = await client.put("/v1/models/ada/echo", headers=auth("ada"), json=body)
    assert (posted.status_code, put.status_code) == (403, 403)


async def test_a_document_for_another_owner(client: httpx.AsyncClient, auth: Headers) -> None:
    refused = await client.post("/v1/models", headers=auth("bob"), json=document())
    assert refused.status_code == 403
    made = await client.post("/v1/models", headers=auth("boss", admin=True), json=document())
    assert made.json()["id"] == "ada/echo"


async def test_put_creates_then_replaces(client: httpx.AsyncClient, auth: Headers) -> None:
    url, headers = "/v1/models/ada/echo", auth("ada")
    assert (await client.put(url, headers=headers, json=document())).status_code == 201
    replaced = await client.put(url, headers=headers, json=document(version="2"))
    assert (replaced.status_code, replaced.json()["version"]) == (200, "2")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (document(color="red"), "body.spec.color"),
        ({**document(), "kind": "Pod"}, "body.kind"),
        ({**document(), "metadata": {"name": "other", "namespace": "ada"}}, "body.metadata"),
        ([], "body"),
    ],
)
async def test_put_names_the_field(
    client: httpx.AsyncClient, auth: Headers, body: Any, field: str
) -> None:
    refused = await client.put("/v1/models/ada/echo", headers=auth("ada"), json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == field


async def test_who_sees_what(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any]
) -> None:
    make_model("ada", "private")
    make_model("ada", "public", visibility="public")
    make_model("bob", "private")

    async def seen(headers: dict[str, str]) -> list[str]:
        page = (await client.get("/v1/models", headers=headers)).json()
        return [model["id"] for model in page["results"]]

    assert await seen({}) == ["ada/public"]
    assert await seen(auth("ada")) == ["ada/private", "ada/public"]
    assert await seen(auth("bob")) == ["ada/public", "bob/private"]


async def test_pages(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any]
) -> None:
    for number in range(5):
        make_model("ada", f"m{number}")
    seen, url = [], "/v1/models?limit=2"
    while url:
        page = (await client.get(url, headers=auth("ada"))).json()
        seen.append([model["name"] for model in page["results"]])
        url = page["next"]
    assert seen == [["m0", "m1"], ["m2", "m3"], ["m4"]]
    assert (await client.get("/v1/models?cursor=%FF")).status_code == 422


async def test_a_page_ends_by_its_bytes(
    client: httpx.AsyncClient, auth: Headers, settings: GatewaySettings, make_model: Any
) -> None:
    settings.max_page_bytes = 100_000
    texts = [f"{number:0900}" for number in range(60)]
    for number in range(5):
        schema = {"text": {"type": "string", "enum": texts}}
        make_model("ada", f"m{number}", visibility="public", input_schema=schema)
    names, url = [], "/v1/models"
    while url:
        page = (await client.get(url)).json()
        assert len(page["results"]) < 3
        names += [model["name"] for model in page["results"]]
        url = page["next"]
    assert names == [f"m{number}" for number in range(5)]


async def test_what_strangers_do_not_see_of_a_public_model(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any], home: Path
) -> None:
    status = layout.status_file(home, "ada", "echo")
    status.parent.mkdir(parents=True)
    status.write_text(
        '{"logTail": ["secret line"], "conditions": [{"type": "Ready", "status": "False",'
        ' "reason": "LoadFailed", "message": "secret message"}]}'
    )
    make_model("ada", "echo", visibility="public", source={"path": "/srv/secret-folder"})
    for headers, sees in ((auth("ada"), True), (auth("bob"), False), ({}, False)):
        text = (await client.get("/v1/models/ada/echo", headers=headers)).text
        assert ("secret" in text) is sees
        assert '"reason":"LoadFailed"' in text


async def test_a_broken_document_tells_its_owner_why(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any], home: Path
) -> None:
    path = layout.model_file(home, "ada", "echo")
    path.parent.mkdir(parents=True)
    path.write_text("spec: {type: poetry}\n")
    make_model("ada", "good")
    body = (await client.get("/v1/models/ada/echo", headers=auth("ada"))).json()
    (condition,) = body["status"]["conditions"]
    assert condition["reason"] == "InvalidModel"
    assert condition["message"].startswith("metadata: ")
    listed = (await client.get("/v1/models", headers=auth("ada"))).json()["results"]
    assert [model["name"] for model in listed] == ["echo", "good"]
    assert (await client.get("/v1/models/ada/echo", headers=auth("bob"))).status_code == 404


async def test_deleting_cancels_what_is_open(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: Callable[..., Any],
    database_url: str,
    home: Path,
) -> None:
    make_model("ada", "echo", visibility="public")
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(
            "INSERT INTO predictions (id, owner, model, version, token, input, deadline)"
            " VALUES (gen_random_uuid(), md5('ada')::uuid, 'ada/echo', '1', 't', '{}', 'infinity')"
        )
        refused = await client.delete("/v1/models/ada/echo", headers=auth("bob"))
        assert refused.status_code == 403
        deleted = await client.delete("/v1/models/ada/echo", headers=auth("ada"))
        assert deleted.status_code == 204
        cursor.execute("SELECT status, error_code FROM predictions")
        assert cursor.fetchall() == [("canceled", "model_deleted")]
    assert not layout.model_file(home, "ada", "echo").exists()
    assert (await client.get("/v1/models/ada/echo", headers=auth("ada"))).status_code == 404


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GPT-2", "gpt-2"),
        ("My  Model (v2)!", "my-model-v2"),
        ("échelle", "chelle"),
        ("x" * 60, "x" * 40),
        ("a" * 39 + "-b", "a" * 39),
        ("...", ""),
    ],
)
def test_resource_names(name: str, expected: str) -> None:
    assert resource_name(name) == expected


@pytest.mark.parametrize("model_path", ["..", "a/..", "org/name@../x", "%2e%2e", "models--org--a"])
async def test_what_is_no_repository_is_nobodys_model(
    client: httpx.AsyncClient, auth: Headers, model_path: str
) -> None:
    """Of an administrator neither: `..` would be a folder beside the cache."""
    repo, _, revision = model_path.partition("@")
    hub = {"repo": repo} | ({"revision": revision} if revision else {})
    body = document(source={"hub": hub})
    for headers in (auth("ada"), auth("root2", admin=True)):
        refused = await client.put("/v1/models/ada/echo", headers=headers, json=body)
        assert refused.status_code == 422
        field = "revision" if revision else "repo"
        assert refused.json()["errors"][0]["field"] == f"body.spec.source.hub.{field}"
    if model_path != "..":  # The short form takes this for a path.
        assert (await create(client, auth("ada"), model_path=model_path)).status_code == 422


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gpt2", False),
        ("org/name", False),
        ("/a", True),
        ("./a", True),
        ("..", True),
        ("~/a", True),
    ],
)
def test_paths_and_repositories(path: str, expected: bool) -> None:
    assert is_path(path) is expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"name": NaN}', b'{"name": "\\ud800"}', b"[" * 10_000]
)
async def test_a_body_that_is_not_json(
    client: httpx.AsyncClient, auth: Headers, body: bytes
) -> None:
    refused = await client.post("/v1/models", headers=auth("ada"), content=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body"


async def test_an_endless_number_does_not_break_the_list(
    client: httpx.AsyncClient, auth: Headers
) -> None:
    body = json.dumps({**SEED, "input_schema": {"x": {"type": "number", "default": 1}}})
    content = body.replace('"default": 1', '"default": 1, "maximum": 1e999')
    await client.post("/v1/models", headers=auth("ada"), content=content)
    assert (await client.get("/v1/models", headers=auth("ada"))).status_code == 200


async def test_an_administrator_lists_what_they_may_read(
    client: httpx.AsyncClient, auth: Headers, make_model: Callable[..., Any], home: Path
) -> None:
    make_model("ada", "echo")
    broken = layout.model_file(home, "bob", "broken")
    broken.parent.mkdir(parents=True)
    broken.write_text("a: [")
    make_model("ada", "other")  # The catalog sees both.
    root = auth("root", admin=True)
    listed = (await client.get("/v1/models", headers=root)).json()["results"]
    assert [model["id"] for model in listed] == ["ada/echo", "ada/other", "bob/broken"]
    for model in listed:
        assert (await client.get(model["url"], headers=root)).json() == model
    assert (await client.get("/v1/models", headers=auth("eve"))).json()["results"] == []


async def test_runs_are_counted(
    client: httpx.AsyncClient,
    auth: Headers,
    make_model: Callable[..., Any],
    settings: GatewaySettings,
) -> None:
    make_model("ada", "echo", visibility="public")
    make_model("ada", "idle", visibility="public")
    engine = db.engine(settings)
    usage = Usage(engine)
    body = {"model": "ada/echo", "input": {"prompt": "x"}}

    async def runs() -> dict[str, int]:
        await asyncio.sleep(0.6)  # What is known holds for half a second.
        listed = (await client.get("/v1/models")).json()["results"]
        one = (await client.get("/v1/models/ada/echo")).json()
        counts = {model["name"]: model["run_count"] for model in listed}
        assert one["run_count"] == counts["echo"]
        return counts

    for count in (1, 2, 3):
        await client.post("/v1/predictions", json=body, headers=auth("bob"))
        assert await runs() == {"echo": count, "idle": 0}
        if count > 1:  # By dispatch, and then what came since.
            await asyncio.to_thread(usage.step)
            assert await runs() == {"echo": count, "idle": 0}
    engine.dispose()
