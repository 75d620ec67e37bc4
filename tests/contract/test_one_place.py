"""A new model type or webhook event: who must know of it, and cannot be forgotten.

The same for a column of predictions is tests/gateway/lifecycle/test_prediction.py, and for a
setting tests/docs/test_configuration.py.
"""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import jsonschema
import pytest

from inference_contract.inferencemodel import InferenceModelSpec
from inference_contract.modeltype import ModelType
from inference_contract.parameters import INTERFACES, Parameter
from inference_contract.webhooks import ONCE, WHILE_RUNNING, WebhookEvent
from inference_gateway.dispatch.recording.event_batch import Entry, fold
from inference_gateway.models.openapi import openapi_schema
from inference_gateway.postgres.tables import WebhookDelivery
from inference_gateway.predictions.openapi import CREATE
from inference_runner.engines import registry

SOURCE = {"path": "/models/m"}
CUSTOM = {"className": "a:B"}


@pytest.mark.parametrize("model_type", ModelType)
def test_a_type_of_model_says_what_it_takes_and_gives(model_type: ModelType) -> None:
    assert model_type in INTERFACES
    inputs, output, one_of = INTERFACES[model_type]
    assert all(isinstance(parameter, Parameter) for parameter in inputs.values())
    assert not any(inputs[name].is_required for name in one_of)
    jsonschema.Draft202012Validator.check_schema(output)


@pytest.mark.parametrize("model_type", ModelType)
def test_a_type_of_model_has_an_engine(model_type: ModelType) -> None:
    assert model_type in registry.MODULES
    module = f"inference_runner.engines.{registry.MODULES[model_type]}"
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("model_type", ModelType)
def test_a_version_declares_what_its_type_takes_and_gives(model_type: ModelType) -> None:
    engine = CUSTOM if model_type is ModelType.CUSTOM else {}
    document = {"type": model_type, "source": SOURCE, "engine": engine}
    declared = openapi_schema(InferenceModelSpec.model_validate(document))["components"]["schemas"]
    inputs, output, one_of = INTERFACES[model_type]
    assert declared["Input"]["properties"].keys() == inputs.keys()
    alternatives = [{"required": [name]} for name in one_of]
    assert declared["Input"].get("oneOf", []) == alternatives
    assert declared["Output"] == {"title": "Output", **output}


def test_every_webhook_event_is_told_of_some_run() -> None:
    def said(type: str, **more: Any) -> Any:
        return {"type": type, "id": "i", "attempt": 1, "token": "t", **more}

    run = [said("started"), said("output", output=1), said("logs", logs="l"), said("succeeded")]
    (change,) = fold([Entry(1, run)])
    assert set(change.events) == set(WebhookEvent)


def test_every_webhook_event_may_be_asked_for() -> None:
    body: Any = CREATE
    assert body["properties"]["webhook_events_filter"]["items"]["enum"] == list(WebhookEvent)


def test_an_event_is_told_once_or_again_and_again() -> None:
    assert sorted((*ONCE, *WHILE_RUNNING)) == sorted(WebhookEvent)
    (index,) = (
        index
        for index in WebhookDelivery.__table__.indexes  # type: ignore[attr-defined]
        if index.name == "webhook_deliveries_once_idx"
    )
    predicate = str(index.dialect_options["postgresql"]["where"])
    assert set(re.findall(r"'(\w+)'", predicate)) == set(ONCE)
