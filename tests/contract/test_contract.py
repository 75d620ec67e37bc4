"""States, parameters, documents, state files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from inference_contract import statefile
from inference_contract.inferencemodel import (
    Condition,
    ConditionStatus,
    ConditionType,
    InferenceModelSpec,
    InferenceModelStatus,
    RolloutStatus,
)
from inference_contract.modeltype import ModelType
from inference_contract.parameters import Parameter, default_parameters, json_schema
from inference_contract.predictions import EventType, PredictionStatus


def test_which_states_are_final() -> None:
    final = {"succeeded", "failed", "canceled"}
    assert {status.value for status in PredictionStatus if status.is_terminal} == final
    assert {event.value for event in EventType if event.is_terminal} == final


def test_parameters_become_a_json_schema() -> None:
    parameters = {
        "prompt": Parameter(type="string", description="Text.", maxLength=10),
        "n": Parameter(type="integer", default=1, minimum=1, maximum=3),
        "seed": Parameter(type="integer", required=False),
    }
    assert json_schema(parameters) == {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "Text.", "maxLength": 10},
            "n": {"type": "integer", "default": 1, "minimum": 1, "maximum": 3},
            "seed": {"type": "integer"},
        },
        "required": ["prompt"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("model_type", ModelType)
def test_the_default_parameters_of_each_type_are_a_json_schema(model_type: ModelType) -> None:
    schema = json_schema(default_parameters(model_type))
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"minReplicas": 2}, "minReplicas must not exceed maxReplicas"),
        ({"source": {}}, "exactly one of path, pvc, hub, wheel"),
        (
            {"source": {"path": "/m", "hub": {"repo": "a/b"}}},
            "exactly one of path, pvc, hub, wheel",
        ),
        ({"type": "custom"}, "className is required for type custom"),
        ({"engine": {"className": "a:B"}}, "className is required for type custom, and only there"),
        (
            {
                "type": "custom",
                "engine": {"className": "a:B"},
                "source": {"hub": {"repo": "a/b"}},
            },
            "takes its code from source.path",
        ),
        ({"inputSchema": {"n": {"type": "integer", "minimum": 2, "maximum": 1}}}, "minimum"),
        ({"replicas": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_contradicts_itself_is_refused(spec: dict[str, Any], message: str) -> None:
    valid = {"type": "text-generation", "source": {"path": "/m"}}
    with pytest.raises(ValidationError, match=message):
        InferenceModelSpec.model_validate(valid | spec)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"version": "2"}, True),
        ({"source": {"path": "/other"}}, True),
        ({"engine": {"dtype": "float16"}}, True),
        ({"env": [{"name": "A", "value": "b"}]}, True),
        ({"timeouts": {"predictSeconds": 1}}, True),
        ({"type": "classification"}, True),
        ({"hardware": "gpu"}, True),
        ({"batching": {"maxBatchSize": 2}}, True),
        ({"pod": {"image": "other"}}, True),
        ({"cache": {"size": "1Gi"}}, True),
        ({"maxReplicas": 2}, False),
        ({"description": "New words."}, False),
        ({"visibility": "public"}, False),
    ],
)
def test_what_replaces_a_running_runner(change: dict[str, Any], differs: bool) -> None:
    spec = {"type": "text-generation", "source": {"path": "/m"}}
    before = InferenceModelSpec.model_validate(spec).runner_hash()
    assert (InferenceModelSpec.model_validate(spec | change).runner_hash() != before) is differs


def test_a_runner_hash_fits_a_name_and_has_no_order_of_names() -> None:
    def made(*names: str) -> str:
        engine = {"parameters": dict.fromkeys(names, 1)}
        spec = {"type": "text-generation", "source": {"path": "/m"}, "engine": engine}
        return InferenceModelSpec.model_validate(spec).runner_hash()

    assert made("a", "b") == made("b", "a")
    assert len(made("a")) == 12


def test_a_model_without_an_input_schema_takes_what_its_type_takes() -> None:
    spec = {"type": "classification", "source": {"path": "/m"}}
    parameters = InferenceModelSpec.model_validate(spec).parameters()
    assert parameters == default_parameters(ModelType.CLASSIFICATION)


def test_a_condition_is_found_by_its_type() -> None:
    ready, progressing = (
        Condition(type=kind, status=ConditionStatus.TRUE, reason="Ready")
        for kind in (ConditionType.READY, ConditionType.PROGRESSING)
    )
    status = InferenceModelStatus(conditions=[ready, progressing])
    assert status.condition(ConditionType.PROGRESSING) is progressing


def test_a_condition_that_is_not_there_is_none() -> None:
    assert InferenceModelStatus().condition(ConditionType.READY) is None


def test_what_a_program_said_can_always_be_stored() -> None:
    status = RolloutStatus(failed_message="a\0b" + "x" * 5000)
    assert status.failed_message == "a\ufffdb" + "x" * 3997


@pytest.mark.parametrize("message", [None, 1])
def test_what_is_no_text_is_no_message(message: Any) -> None:
    with pytest.raises(ValidationError, match="failedMessage"):
        RolloutStatus.model_validate({"failedMessage": message})


def test_a_reader_never_sees_half_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    statefile.write(path, {"number": 0})
    done = threading.Event()

    def write() -> None:
        for number in range(300):
            statefile.write(path, {"number": number, "padding": "x" * 20_000})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert statefile.read(path) is not None
    writer.join()
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    statefile.write(path, {"number": 1})
    with pytest.raises(TypeError):
        statefile.write(path, {("no", "key"): 1})  # type: ignore[dict-item]
    assert statefile.read(path) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\x00"])
def test_what_is_no_json_object_reads_as_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    assert statefile.read(path) is None
    assert statefile.read(tmp_path / "missing.json") is None
