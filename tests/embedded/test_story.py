"""The main job: create, queue, claim, generate, stream, record, announce."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import event_stream
from standardwebhooks import Webhook


def test_tokens_stream_as_they_come_and_add_up_to_the_recorded_output(
    client: Any, smollm2: str, wait_until: Callable[..., Any]
) -> None:
    made = client.predict(smollm2, {"prompt": "Name three fruits.", "max_new_tokens": 24})
    assert made["status"] == "starting"
    reply = client.http.get(made["urls"]["stream"], headers={"Accept": "text/event-stream"})
    events = event_stream.pairs(reply)
    assert events[-1] == ("done", "{}")
    chunks = [data for name, data in events if name == "output"]
    assert len(chunks) > 3
    done = wait_until(
        lambda: (p := client.prediction(made["id"]))["status"] == "succeeded" and p, timeout=10
    )
    assert done["output"] == "".join(chunks)
    assert 3 < done["metrics"]["output_token_count"] <= 24
    assert done["started_at"] <= done["completed_at"]


def test_cancel_stops_a_running_generation(
    client: Any, smollm2: str, wait_until: Callable[..., Any]
) -> None:
    made = client.predict(smollm2, {"prompt": "Count to a thousand.", "max_new_tokens": 2000})
    wait_until(lambda: client.prediction(made["id"])["status"] == "processing")
    client.http.post(made["urls"]["cancel"]).raise_for_status()
    ended = wait_until(
        lambda: (p := client.prediction(made["id"]))["completed_at"] and p, timeout=10
    )
    assert ended["status"] == "canceled"
    assert len(ended["output"] or "") < 8000


def test_a_signed_webhook_announces_the_end(
    client: Any, smollm2: str, receiver: Any, wait_until: Callable[..., Any]
) -> None:
    made = client.predict(
        smollm2, {"prompt": "Hi", "max_new_tokens": 2}, wait=30, webhook=receiver.url
    )
    assert made["status"] == "succeeded"
    (headers, body), *others = wait_until(lambda: list(receiver.received))
    assert not others
    key = client.http.get("/v1/webhooks/default/secret").json()["key"]
    assert Webhook(key).verify(body, dict(headers))["output"] == made["output"]


def test_one_id_finds_the_whole_story_in_the_logs(
    client: Any, smollm2: str, wait_until: Callable[..., Any]
) -> None:
    made = client.predict(smollm2, {"prompt": "Hi", "max_new_tokens": 2}, wait=30)

    def processes() -> set[str]:
        lines = [
            line
            for file in (client.stack.home / "logs").rglob("*.log")
            for line in file.read_text(errors="replace").splitlines()
            if made["id"] in line and line.startswith("{")
        ]
        return {json.loads(line)["process"] for line in lines}

    wait_until(lambda: {"gateway", "runner", "dispatch"} <= processes(), timeout=10)


def test_a_model_goes_to_zero_and_comes_back(client: Any, wait_until: Callable[..., Any]) -> None:
    model_id = client.apply_custom(
        "sleepy",
        "slow:Slow",
        ("text",),
        parameters={"seconds": 0.01},
        autoscaling={"idleTimeoutSeconds": 1, "scaleDownDelaySeconds": 0},
    )
    for text in ("once", "again"):
        answered = client.predict(model_id, {"text": text}, wait=30)
        assert answered["output"] == text.upper()
        wait_until(lambda: _is_at_zero(client.model(model_id)["status"]), timeout=30)


def _is_at_zero(status: dict[str, Any]) -> bool:
    reasons = [c["reason"] for c in status["conditions"] if c["type"] == "Ready"]
    return status["replicas"] == 0 and reasons == ["ScaledToZero"]


def test_replicas_follow_the_load(client: Any, wait_until: Callable[..., Any]) -> None:
    model_id = client.apply_custom(
        "burst",
        "slow:Slow",
        ("text",),
        parameters={"seconds": 1.0},
        maxReplicas=3,
        batching={"maxBatchSize": 2},
        autoscaling={"targetPerReplica": 4, "idleTimeoutSeconds": 1, "scaleDownDelaySeconds": 1},
    )
    ids = client.create_many(model_id, 24)
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 3, timeout=30)
    wait_until(lambda: client.count(model_id, "succeeded") == len(ids), timeout=60)
    wait_until(lambda: client.model(model_id)["status"]["replicas"] == 0, timeout=30)
