"""Prints and stops of a plain `predict`, as its caller sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import event_stream
import pytest


def _model(client: Any, wait_until: Callable[..., Any], name: str) -> str:
    model_id: str = client.apply_custom(
        name.lower(), f"talkative:{name}", ("text", "seconds"), minReplicas=1, maxReplicas=1
    )
    wait_until(lambda: client.model(model_id)["status"]["ready_replicas"] == 1, timeout=60)
    return model_id


@pytest.fixture
def talkative(client: Any, wait_until: Callable[..., Any]) -> str:
    return _model(client, wait_until, "Talkative")


def test_prints_are_logs_of_get_stream_and_webhook_while_it_runs(
    client: Any, talkative: str, receiver: Any, wait_until: Callable[..., Any]
) -> None:
    made = client.predict(
        talkative,
        {"text": "you", "seconds": "4"},
        webhook=receiver.url,
        webhook_events_filter=["logs", "completed"],
    )
    running = wait_until(
        lambda: (p := client.prediction(made["id"]))["logs"] and p, timeout=10, every=0.1
    )
    assert (running["status"], running["logs"]) == ("processing", "hello you\n")
    with client.http.stream("GET", made["urls"]["stream"]) as reply:
        *said, end = event_stream.pairs(reply)
    assert "".join(data for name, data in said if name == "logs") == "hello you\nbye\n"
    assert end == ("done", "{}")
    assert client.prediction(made["id"])["logs"] == "hello you\nbye\n"
    bodies = wait_until(
        lambda: (
            (b := [json.loads(body) for _, body in receiver.received])
            and b[-1]["status"] == "succeeded"
            and b
        )
    )
    assert bodies[0]["logs"] == "hello you\n"
    assert bodies[-1]["logs"] == "hello you\nbye\n"


@pytest.mark.parametrize("name", ["Talkative", "Deaf"])
def test_a_canceled_prediction_ends_at_once_and_the_next_one_runs(
    client: Any, wait_until: Callable[..., Any], name: str
) -> None:
    model_id = _model(client, wait_until, name)
    made = client.predict(model_id, {"text": "one", "seconds": "3600"})
    wait_until(lambda: client.prediction(made["id"])["status"] == "processing")
    asked = time.monotonic()
    client.http.post(made["urls"]["cancel"]).raise_for_status()
    wait_until(lambda: client.prediction(made["id"])["status"] == "canceled", timeout=10)
    print(f"canceled after {time.monotonic() - asked:.2f} s")
    after = client.predict(model_id, {"text": "two", "seconds": "0"}, wait=40)
    assert after["output"] == "two"
    reasons = [c["reason"] for c in client.model(model_id)["status"]["conditions"]]
    assert "CrashLoopBackOff" not in reasons
