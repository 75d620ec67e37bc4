"""What a runner is started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inference_contract.inferencemodel import InferenceModel, InferenceModelSpec
from inference_contract.pods import RESERVED_ENV
from inference_operator.local.settings import LocalSettings
from inference_operator.plan import plan


def _model(**spec: Any) -> InferenceModel:
    spec = {"type": "text-generation", "source": {"path": "/m"}} | spec
    return InferenceModel.model_validate(
        {"metadata": {"name": "m", "namespace": "alice"}, "spec": spec}
    )


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(
        _env_file=None,
        inference_home=tmp_path,
        redis_url="redis://r:1/0",
        model_cache_dir=Path("/cache"),
        lease_seconds=2.5,
    )


def test_the_environment_of_a_runner(settings: LocalSettings) -> None:
    model = _model(minReplicas=1)
    found = plan(model, settings, 1)
    assert found.env.keys() - {"INFERENCE_MODEL_SPEC"} == {
        *("INFERENCE_MODEL_ID", "REDIS_URL", "MODEL_CACHE_DIR", "ENABLE_GPU"),
        "RUNNER_LEASE_SECONDS",
    }
    assert found.env["INFERENCE_MODEL_ID"] == "alice/m"
    assert found.env["REDIS_URL"] == "redis://r:1/0"
    assert found.env["MODEL_CACHE_DIR"] == "/cache"
    assert found.env["RUNNER_LEASE_SECONDS"] == "2.5"
    spec = json.loads(found.env["INFERENCE_MODEL_SPEC"])
    assert spec["minReplicas"] == 1
    assert InferenceModelSpec.model_validate(spec) == model.spec


def test_labels_hash_and_times(settings: LocalSettings) -> None:
    model = _model(timeouts={"drainSeconds": 700, "loadSeconds": 8})
    found = plan(model, settings, 3)
    assert found.labels == {
        "inference-server.dev/owner": "alice",
        "inference-server.dev/model": "m",
        "inference-server.dev/runner-hash": model.spec.runner_hash(),
    }
    assert (found.model, found.replicas, found.hash) == ("alice/m", 3, model.spec.runner_hash())
    assert (found.grace_seconds, found.load_seconds) == (700, 8)


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({}, 330),
        ({"predictSeconds": 7200}, 7230),
        ({"predictSeconds": 7200, "drainSeconds": 60}, 60),
    ],
)
def test_what_runs_may_end_unless_the_document_says_less(
    settings: LocalSettings, timeouts: dict[str, int], expected: int
) -> None:
    assert plan(_model(timeouts=timeouts), settings, 1).grace_seconds == expected


def test_a_model_adds_to_the_environment_but_does_not_change_it(settings: LocalSettings) -> None:
    found = plan(_model(env=[{"name": "A", "value": "b"}]), settings, 1)
    assert found.env["A"] == "b"
    for name in RESERVED_ENV:
        with pytest.raises(ValidationError, match=f"{name} is set by the server: choose another"):
            _model(env=[{"name": name, "value": "mine"}])


@pytest.mark.parametrize(
    ("enabled", "hardware", "expected"),
    [(True, "gpu", "true"), (True, "cpu", "false"), (False, "gpu", "false")],
)
def test_the_gpu_is_for_models_that_ask_for_it(
    settings: LocalSettings, enabled: bool, hardware: str, expected: str
) -> None:
    settings = settings.model_copy(update={"enable_gpu": enabled})
    assert plan(_model(hardware=hardware), settings, 1).env["ENABLE_GPU"] == expected
