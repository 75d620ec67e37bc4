"""Bad days of a model: each ends with a clear message, and takes nobody else with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _ready(client: Any, model_id: str) -> dict[str, Any]:
    conditions = client.model(model_id)["status"]["conditions"]
    return next((c for c in conditions if c["type"] == "Ready"), {"reason": None})


def test_a_failed_load_is_visible_with_its_reason_and_log(
    client: Any, wait_until: Callable[..., Any]
) -> None:
    model_id = client.apply_custom("cheese", "naughty:RaisesInLoad", ("text",), minReplicas=1)
    condition = wait_until(
        lambda: (c := _ready(client, model_id))["reason"] == "LoadFailed" and c, timeout=30
    )
    assert "the weights are made of cheese" in condition["message"]
    assert any("cheese" in line for line in client.model(model_id)["status"]["log_tail"])
    client.http.delete(f"/v1/models/{model_id}").raise_for_status()


def test_a_path_that_is_no_model_says_so(client: Any, wait_until: Callable[..., Any]) -> None:
    model_id = client.apply(
        "nowhere", type="text-generation", source={"path": "/nonexistent/weights"}, minReplicas=1
    )
    condition = wait_until(
        lambda: (c := _ready(client, model_id))["reason"] == "LoadFailed" and c, timeout=30
    )
    assert "/nonexistent/weights" in condition["message"]
    client.http.delete(f"/v1/models/{model_id}").raise_for_status()


def test_an_invalid_document_names_the_field(client: Any, wait_until: Callable[..., Any]) -> None:
    file = client.stack.home / "models" / client.owner / "broken.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "apiVersion: inference-server.dev/v1alpha1\nkind: InferenceModel\n"
        f"metadata: {{name: broken, namespace: {client.owner}}}\n"
        "spec: {type: custom, source: {path: /x}, engine: {className: 'a:B'}, maxReplicas: -1}\n"
    )
    url = f"/v1/models/{client.owner}/broken"
    wait_until(lambda: client.http.get(url).is_success)
    condition = wait_until(
        lambda: (c := _ready(client, f"{client.owner}/broken"))["reason"] == "InvalidModel" and c
    )
    assert "spec.maxReplicas" in condition["message"]
    file.unlink()


def test_a_model_that_misbehaves_fails_its_own_predictions_only(
    client: Any, wait_until: Callable[..., Any]
) -> None:
    model_id = client.apply_custom(
        "naughty",
        "naughty:Misbehaves",
        ("do",),
        minReplicas=1,
        timeouts={"predictSeconds": 2},
    )
    expected = {
        "raise": ("model_error", "ValueError: I will not"),
        "not-json": ("invalid_output", "object"),
        "hang": ("prediction_timeout", "2"),
    }
    for do, (code, message) in expected.items():
        answer = client.predict(model_id, {"do": do}, wait=30)
        assert (answer["status"], answer["error_code"]) == ("failed", code), answer
        assert message in answer["error"]
    assert client.predict(model_id, {"do": "well"}, wait=30)["output"] == "well"


def test_deleting_a_model_ends_what_waits(client: Any, wait_until: Callable[..., Any]) -> None:
    model_id = client.apply(
        "doomed", type="text-generation", source={"path": "/nonexistent/weights"}
    )
    made = client.predict(model_id, {"prompt": "Anybody there?"})
    client.http.delete(f"/v1/models/{model_id}").raise_for_status()
    ended = wait_until(lambda: (p := client.prediction(made["id"]))["completed_at"] and p)
    assert (ended["status"], ended["error_code"]) == ("canceled", "model_deleted")


def test_a_document_removed_by_hand_lets_finish_what_runs(
    client: Any, wait_until: Callable[..., Any]
) -> None:
    model_id = client.apply_custom(
        "retired",
        "slow:Slow",
        ("text",),
        parameters={"seconds": 3},
        minReplicas=1,
        batching={"maxBatchSize": 1},
    )
    wait_until(lambda: _ready(client, model_id)["reason"] == "Ready", timeout=30)
    runs, waits = (client.predict(model_id, {"text": text})["id"] for text in ("one", "two"))
    wait_until(lambda: client.prediction(runs)["status"] == "processing")
    (client.stack.home / "models" / f"{model_id}.yaml").unlink()
    ended = wait_until(lambda: (p := client.prediction(waits))["completed_at"] and p)
    assert (ended["status"], ended["error_code"]) == ("canceled", "model_deleted")
    ended = wait_until(lambda: (p := client.prediction(runs))["completed_at"] and p)
    assert (ended["status"], ended["output"]) == ("succeeded", "ONE")
