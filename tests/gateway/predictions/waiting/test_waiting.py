"""A caller sees what a prediction waits for, in every answer that shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference_contract import layout
from inference_contract.inferencemodel import InferenceModel
from inference_gateway.models.catalog import CatalogModel
from inference_gateway.models.store import InvalidDocument
from inference_gateway.predictions.streaming import comments
from inference_gateway.predictions.streaming.sse import HEARTBEAT
from inference_gateway.predictions.waiting import status_detail

Auth = Callable[..., dict[str, str]]
ROW: Any = {"model": "ada/echo", "status": "starting", "completed_at": None, "held": False}


def _model(status: str = "False", reason: str = "LoadFailed", **more: Any) -> CatalogModel:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": "no such class"}
    document = {
        "metadata": {"name": "echo", "namespace": "ada"},
        "spec": {"type": "text-generation", "source": {"path": "/m"}},
        "status": {"conditions": [condition], **more},
    }
    return CatalogModel(InferenceModel.model_validate(document))


@pytest.mark.parametrize(
    ("entry", "stage", "reason", "message"),
    [
        *(
            (_model(reason=reason), "blocked", reason, "no such class")
            for reason in ("LoadFailed", "Unschedulable", "NoCapacity", "ImagePullBackOff")
        ),
        (_model(reason="SomethingNew"), "blocked", "SomethingNew", "no such class"),
        (_model(reason="LoadingModel"), "loading", "LoadingModel", "no such class"),
        (_model(reason="DownloadingModel"), "downloading", "DownloadingModel", "no such class"),
        (_model("Unknown", "ScaledToZero"), "starting", "ScaledToZero", "a replica of the model"),
        (
            _model("True", "Ready", readyReplicas=2, queued=7, inFlight=3),
            *("queued", "Queued", "7 predictions of the model wait and 3 run, on 2 replicas"),
        ),
        (None, "blocked", "ModelGone", "the model is not there any more"),
        (InvalidDocument("ada/echo", "spec.type: no"), "blocked", "InvalidModel", "spec.type: no"),
    ],
)
def test_what_a_prediction_waits_for(entry: Any, stage: str, reason: str, message: str) -> None:
    said = status_detail.detail(entry, ROW, is_trusted=True)
    assert said is not None
    assert (said["stage"], said["reason"]) == (stage, reason)
    assert message in said["message"]


def test_what_a_runner_says_is_for_its_owner() -> None:
    said = status_detail.detail(_model(), ROW, is_trusted=False)
    assert said is not None
    assert said["reason"] == "LoadFailed"
    assert "no such class" not in said["message"]


@pytest.mark.parametrize("row", [{"status": "processing"}, {"completed_at": "now"}])
def test_what_waits_no_more_says_nothing(row: dict[str, Any]) -> None:
    waits: Any = {**ROW, **row}
    assert status_detail.detail(_model(), waits, is_trusted=True) is None


@pytest.fixture
def blocked(echo: str, app: FastAPI, home: Path) -> str:
    path = layout.status_file(home, "ada", "echo")
    path.parent.mkdir(parents=True, exist_ok=True)
    condition = {"type": "Ready", "status": "False", "reason": "LoadFailed", "message": "no class"}
    path.write_text(json.dumps({"conditions": [condition]}))
    return echo


async def test_every_answer_says_it(
    client: httpx.AsyncClient,
    app: FastAPI,
    blocked: str,
    auth: Auth,
    runner: Any,
    eventually: Any,
) -> None:
    app.state.services.catalog.refresh()
    expected = {"stage": "blocked", "reason": "LoadFailed", "message": "no class"}
    body = {"model_id": blocked, "input": {"text": "hi"}}
    headers = auth("ada")
    made = (await client.post("/v1/predictions", json=body, headers=headers)).json()
    assert made["status_detail"] == expected
    waited = await client.post(
        "/v1/predictions", json=body, headers={**headers, "Prefer": "wait=1"}
    )
    assert (waited.status_code, waited.json()["status_detail"]) == (202, expected)
    url = f"/v1/predictions/{made['id']}"
    assert (await client.get(url, headers=headers)).json()["status_detail"] == expected
    listed = (await client.get("/v1/predictions", headers=headers)).json()["results"]
    assert [found["status_detail"] for found in listed] == [expected, expected]
    canceled = (await client.post(f"{url}/cancel", headers=headers)).json()
    assert canceled["status"] == "canceled"
    assert "status_detail" not in canceled


async def test_a_stream_says_it_in_a_comment(
    client: httpx.AsyncClient, app: FastAPI, blocked: str, auth: Auth, runner: Any
) -> None:
    app.state.services.catalog.refresh()
    body = {"model_id": blocked, "input": {"text": "hi"}}
    made = (await client.post("/v1/predictions", json=body, headers=auth("ada"))).json()
    await client.post(f"/v1/predictions/{made['id']}/cancel", headers=auth("ada"))
    ended = await client.get(f"/v1/predictions/{made['id']}/stream", headers=auth("ada"))
    assert ended.text[:1] != ":"  # Nothing waits any more.


async def test_heartbeats_say_it() -> None:
    async def events() -> Any:
        yield b"event: output\n\n"
        yield HEARTBEAT
        yield b"event: done\n\n"

    said = {"stage": "blocked", "reason": "LoadFailed", "message": "no\nclass"}

    async def why() -> Any:
        return said

    told = [chunk async for chunk in comments.with_detail(events(), said, why)]
    comment = b": blocked: LoadFailed: no class\n\n"
    assert told == [comment, b"event: output\n\n", comment, b"event: done\n\n"]
