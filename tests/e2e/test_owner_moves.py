"""An administrator gives a namespace to another account while predictions come in."""

from __future__ import annotations

import json
import os
import time

import pytest
from release import Account, Release, is_ready, kubectl
from traffic import Traffic

from inference_contract.pods import LABEL_OWNER, RunnerEnv


def _serving(account: Account) -> set[str]:
    """The ids of the models that the ready pods of `echo` serve."""
    environments = [
        {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
        for pod in account.pods("echo")
        if is_ready(pod)
    ]
    return {environment[RunnerEnv.MODEL_ID] for environment in environments}


@pytest.mark.skipif("E2E_SHARED" in os.environ, reason="there every account has a namespace")
def test_a_namespace_changes_hands(release: Release, account: Account, echo: str) -> None:
    """What waited waits until it is given back, and runs with nobody else's model."""
    heir = release.account()
    moved = f"{heir.name}/echo"
    made = [account.create(echo, text=f"text {number}") for number in range(60)]
    label = ("label", "--overwrite", "namespace", account.namespace)
    start = time.monotonic()
    try:
        kubectl(*label, f"{LABEL_OWNER}={heir.name}")
        heir.wait_until(lambda: heir.api.get(f"/v1/models/{moved}").status_code == 200)
        assert account.api.get(f"/v1/models/{echo}").status_code == 404
        with Traffic(release, heir, moved) as traffic:
            traffic.flows(timeout=120)
            print(f"20 predictions of the heir after {time.monotonic() - start:.1f} s")
        print(traffic.tally())
        heir.wait_until(lambda: _serving(account) == {moved}, 120, every=0.5)
        listed = json.dumps(heir.api.get("/v1/predictions").json())
        assert not [p["id"] for p in made if p["id"] in listed]
    finally:
        kubectl(*label, f"{LABEL_OWNER}={account.name}")
    account.wait_until(lambda: account.api.get(f"/v1/models/{echo}").status_code == 200)
    ended = [account.until_ended(prediction, 120) for prediction in made]
    assert {p["status"] for p in ended} == {"succeeded"}
    assert [p["output"] for p in ended] == [p["input"]["text"].upper() for p in ended]
    assert heir.api.get(f"/v1/models/{moved}").status_code == 404
