"""The command line's own readings: inputs, documents, event streams, logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from inference_local.cli import follow, inputs, logs, models


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("12", "integer", 12),
        ("12", "string", "12"),
        ("12", None, "12"),
        ("0.5", "number", 0.5),
        ("3", "number", 3),
        ("0.5", "integer", "0.5"),
        ("true", "boolean", True),
        ("true", "integer", "true"),
        ("1", "boolean", "1"),
        ('["a"]', "array", ["a"]),
        ('{"a": 1}', "object", {"a": 1}),
        ("twelve", "integer", "twelve"),
        ('"quoted"', "string", '"quoted"'),
    ],
)
def test_a_value_is_json_only_where_the_model_wants_that_type(
    text: str, wanted: str | None, expected: Any
) -> None:
    value = inputs.value_for(text, wanted)
    assert value == expected
    assert type(value) is type(expected)


def test_files_become_data_urls(tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG")
    given = inputs.parse(["prompt=a=b"], [f"image={picture}"], {"prompt": {"type": "string"}})
    assert given == {"prompt": "a=b", "image": "data:image/png;base64,iVBORw=="}


@pytest.mark.parametrize(("pair", "file"), [("novalue", ""), ("=x", ""), ("", "image=/nowhere")])
def test_what_is_no_input_is_a_usage_error(pair: str, file: str) -> None:
    with pytest.raises(typer.BadParameter):
        inputs.parse([pair] if pair else [], [file] if file else [], {})


def test_a_relative_path_counts_from_the_document() -> None:
    document = {"spec": {"source": {"path": "../echo"}}}
    models.resolve_path(document, Path("/models/mine"))
    assert document["spec"]["source"]["path"] == "/models/echo"


@pytest.mark.parametrize("document", [{}, {"spec": None}, {"spec": {"source": {"hub": {}}}}])
def test_other_sources_are_left_alone(document: dict[str, Any]) -> None:
    before = json.dumps(document)
    models.resolve_path(document, Path("/"))
    assert json.dumps(document) == before


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        (None, "", "starts with the first prediction"),
        ("ScaledToZero", "idle", "starts with the first prediction"),
        ("LoadingModel", "", "loading the model"),
        ("LoadFailed", "no such file", "LoadFailed: no such file"),
        ("NoCapacity", "", "NoCapacity"),
    ],
)
def test_the_truth_of_a_wait(reason: str | None, message: str, words: str) -> None:
    assert follow.truth({"reason": reason, "message": message}) == words


@pytest.mark.parametrize(
    ("output", "text"),
    [("plain", "plain"), (["a", "b"], "ab"), ({"a": 1}, '{\n  "a": 1\n}'), (None, "null")],
)
def test_output_as_text(output: Any, text: str) -> None:
    assert follow.text_of(output) == text


def test_log_lines_are_for_people() -> None:
    line = json.dumps(
        {"time": "2030-01-02T03:04:05.678+00:00", "level": "info", "process": "gateway"}
        | {"logger": "x", "event": "created", "prediction": "abc"}
    )
    assert logs.pretty("gateway", line) == "03:04:05.678 info    gateway: created  prediction=abc"
    assert logs.pretty("valkey", "# plain") == "valkey: # plain"


def test_following_prints_each_whole_line_once(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    log.write_text("old\n")
    offsets = {log: log.stat().st_size}
    with log.open("a") as file:
        file.write("one\ntwo\nhal")
    assert [line for _, line in logs.news(tmp_path, None, offsets)] == ["one", "two"]
    with log.open("a") as file:
        file.write("f\n")
    assert [line for _, line in logs.news(tmp_path, None, offsets)] == ["half"]
    log.write_text("new\n")
    assert [line for _, line in logs.news(tmp_path, None, offsets)] == ["new"]
