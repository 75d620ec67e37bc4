"""The chart is upgraded, tested and rolled back while predictions come in."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from release import Account, Release, apply, kubectl, run
from traffic import Traffic

COMPONENTS = ("gateway", "dispatch", "operator")


@pytest.fixture
def token(release: Release, account: Account) -> Iterator[str]:
    """Name of a Secret with an API token of the account, for `helm test`."""
    name = "tests-token"
    metadata = {"name": name, "namespace": release.name}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    apply({**body, "stringData": {"TOKEN": account.token}})
    yield name
    kubectl("-n", release.name, "delete", "secret", name)


def test_an_upgrade_and_back(release: Release, traffic: Traffic, echo: str, token: str) -> None:
    test = f"test.model={echo},test.existingSecret={token}"
    with traffic:
        before = release.uids(*COMPONENTS)
        start = time.monotonic()
        changes = ("--set", "config.logLevel=DEBUG", "--set", test)
        release.upgrade(*changes, "--set-json", 'test.input={"text": "from helm"}')
        print(f"helm upgrade --wait: {time.monotonic() - start:.1f} s")
        release.until_gone(before)
        after = release.uids(*COMPONENTS)
        traffic.flows()
        start = time.monotonic()
        log = run("helm", "test", release.name, "--namespace", release.name, "--logs")
        print(f"helm test: {time.monotonic() - start:.1f} s")
        assert '"output": "FROM HELM"' in log
        start = time.monotonic()
        release.rollback(1)
        print(f"helm rollback --wait: {time.monotonic() - start:.1f} s")
        release.until_gone(after)
        traffic.flows()
    tally = traffic.tally()
    print(tally)
    assert tally.attempts == 1
    assert tally.outage < 5
