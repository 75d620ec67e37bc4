"""Documents that hold what is no value: each is refused by name, and the others stay served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_contract import layout
from inference_gateway.models import documents

HEAD = """\
apiVersion: inference-server.dev/v1alpha1
kind: InferenceModel
metadata: {name: odd, namespace: ada}
spec:
  type: text-generation
  source: {hub: {repo: gpt2}}
"""
FIELD = "inputSchema.x.default"


def default(text: str) -> str:
    return f"{HEAD}  inputSchema:\n    x: {{type: string, default: {text}}}\n"


def _doubled(first: str, following: str) -> str:
    return first + "".join(
        following.replace("N", str(n)).replace("M", str(n - 1)) for n in range(40)
    )


FILES = {
    "deep": (default("[" * 250 + "]" * 250), f"spec.{FIELD} is nested"),
    "a little too deep": (default("[" * 65 + "]" * 65), f"spec: {FIELD} is nested"),
    "deep enough to end the process": (f"{HEAD}x: {'[' * 400_000}", "x is nested"),
    "deep without brackets": ("- " * 450_000, "is nested"),
    "NaN": (default(".nan"), f"{FIELD} holds nan"),
    "1e400": (default("1.0e+400"), f"{FIELD} holds inf"),
    "NUL": (default('"\\0"'), f"{FIELD} holds the character U+0000"),
    "half a character": (default('"\\uD800"'), "not YAML"),
    "a huge integer": (default("9" * 30), f"{FIELD} holds an integer"),
    "an endless integer": (default("9" * 5000), "not YAML"),
    "a date": (default("2020-01-01"), f"{FIELD} holds a date"),
    "a key that is a number": (default("{1: a}"), f"{FIELD} has the key '1'"),
    "a key that is true": (default("{true: a}"), f"{FIELD} has the key 'True'"),
    "a key that is a date": (default("{2020-01-01: a}"), f"{FIELD} has the key '2020-01-01'"),
    "a key that is a list": (default("{[1]: a}"), "not YAML"),
    "the same key twice": (
        f"{HEAD}  version: '1'\n  version: '2'\n",
        "spec.version is there twice",
    ),
    "aliases of aliases": (
        _doubled("a-1: &a-1 [x]\n", "aN: &aN [*aM, *aM]\n") + HEAD,
        "has more than 200000 values",
    ),
    "merged keys of merged keys": (
        _doubled("a-1: &a-1 {k: 1}\n", "aN: &aN {<<: [*aM, *aM]}\n") + HEAD,
        "has more than 200000 values",
    ),
    "an alias of itself": (f"{HEAD}x: &x [*x]\n", "x has *x"),
    "a tag that its text does not fit": (default("!!bool x"), "not YAML"),
    "a moment that is none": (default("!!timestamp x"), "not YAML"),
    "bytes": (default("!!binary aGk="), f"{FIELD} holds a bytes"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_refused_by_name(case: str) -> None:
    text, message = FILES[case]
    with pytest.raises(documents.InvalidModel) as refused:
        documents.load(text.encode())
    assert message in str(refused.value)


async def test_files_that_are_no_documents_hide_no_others(
    client: httpx.AsyncClient,
    make_model: Callable[..., Any],
    home: Path,
    app: Any,
    auth: Callable[..., dict[str, str]],
) -> None:
    make_model("bob", "fine", visibility="public")
    folder = layout.models_dir(home) / "ada"
    folder.mkdir()
    for number, (text, _) in enumerate(FILES.values()):
        (folder / f"m{number}.yaml").write_text(text)
    import os

    os.mkfifo(folder / "pipe.yaml")
    (folder / "endless.yaml").symlink_to("/dev/zero")
    (folder / "folder.yaml").mkdir()
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    app.state.services.catalog.refresh()
    listed = await client.get("/v1/models")
    assert [model["name"] for model in listed.json()["results"]] == ["fine"]
    own = (await client.get("/v1/models", headers=auth("ada"))).json()["results"]
    assert len(own) == 1 + len(FILES) + 3, "all that can be opened is there, with what is wrong"


DOCUMENT: dict[str, Any] = {
    "apiVersion": "inference-server.dev/v1alpha1",
    "kind": "InferenceModel",
    "metadata": {"name": "odd", "namespace": "ada"},
    "spec": {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}},
}
SHORT = '{"name": "odd", "model_type": "text-generation", "model_path": "gpt2", "input_schema": %s}'
VALUES = {
    "deep": "[" * 250 + "]" * 250,
    "deeper": "[" * 900 + "]" * 900,
    "too deep for the parser": "[" * 3000 + "]" * 3000,
    "objects": '{"a":' * 65 + "1" + "}" * 65,
    "NaN": "NaN",
    "1e400": "1e400",
    "NUL": '"\\u0000"',
    "half a character": '"\\ud800"',
    "a huge integer": "9" * 30,
    "a NUL in a key": '{"\\u0000": 1}',
}


@pytest.mark.parametrize("case", VALUES)
async def test_by_the_api_they_are_refused_and_the_list_is_as_before(
    client: httpx.AsyncClient,
    make_model: Callable[..., Any],
    auth: Callable[..., dict[str, str]],
    case: str,
) -> None:
    import json

    make_model("bob", "fine", visibility="public")
    schema = f'{{"x": {{"type": "string", "default": {VALUES[case]}}}}}'
    spec = json.dumps(DOCUMENT)[:-2] + f', "inputSchema": {schema}}}}}'
    headers = {**auth("ada"), "Content-Type": "application/json"}
    for method, url, body in (
        ("POST", "/v1/models", spec),
        ("POST", "/v1/models", SHORT % schema),
        ("PUT", "/v1/models/ada/odd", spec),
    ):
        reply = await client.request(method, url, content=body, headers=headers)
        assert reply.status_code == 422, reply.text
        assert reply.json()["errors"][0]["field"].startswith("body")
    listed = await client.get("/v1/models", headers=auth("ada"))
    assert [model["name"] for model in listed.json()["results"]] == ["fine"]
