"""Each right that the chart gives is used, and nothing was asked for without one.

The API server's audit log tells what the pods of the release asked for in all tests of this folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from release import CLUSTER_DIR, Release, items, kubectl

FOLDER = Path(__file__).parent
NOT_A_REQUEST = {("operator", "inferencemodels/finalizers", "update")}
"""An admission plugin asks whether one has it, which not every API server runs."""

Right = tuple[str, str, str]
"""(component, resource, verb)"""


def _prefix(release: Release) -> str:
    """Of the names of its service accounts; the component follows."""
    return f"{release.name}-inference-server-"


def _granted(release: Release) -> Iterator[Right]:
    of_release = ("-A", "-l", f"app.kubernetes.io/instance={release.name}")
    for scope in ("", "cluster"):
        roles = {
            (role["metadata"].get("namespace"), role["metadata"]["name"]): role["rules"]
            for role in items(f"{scope}roles", *of_release)
        }
        for binding in items(f"{scope}rolebindings", *of_release):
            rules = roles[binding["metadata"].get("namespace"), binding["roleRef"]["name"]]
            for subject in binding["subjects"]:
                component = subject["name"].removeprefix(_prefix(release))
                for rule in rules:
                    for resource in rule["resources"]:
                        yield from ((component, resource, verb) for verb in rule["verbs"])


def _asked(release: Release) -> Iterator[tuple[Right, bool]]:
    """Since this release was installed, and whether it was allowed."""
    where = ("-n", release.name, "serviceaccount", f"{_prefix(release)}operator")
    since = kubectl("get", *where, "-o", "jsonpath={.metadata.creationTimestamp}").rstrip("Z")
    ours = f"system:serviceaccount:{release.name}:{_prefix(release)}"
    for log in sorted((CLUSTER_DIR / "log").glob("audit*.log")):
        for line in log.read_text().splitlines():
            event = json.loads(line)
            user = event["user"]["username"]
            if (
                user.startswith(ours)
                and "objectRef" in event
                and event["requestReceivedTimestamp"] >= since
            ):
                what = event["objectRef"]
                resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
                component = user.removeprefix(ours)
                is_allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow"
                yield (component, resource, event["verb"]), is_allowed
                # An apply of what was not there, for which one needs both rights.
                if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
                    yield (component, resource, "create"), is_allowed


def test_every_right_is_used(release: Release, request: pytest.FixtureRequest) -> None:
    collected = {item.path for item in request.session.items}
    if missing := set(FOLDER.glob("test_*.py")) - collected:
        pytest.skip(f"only after all tests of this folder: {sorted(m.name for m in missing)}")
    granted = set(_granted(release))
    used: set[Right] = set()
    refused: set[Right] = set()
    for right, is_allowed in _asked(release):
        (used if is_allowed else refused).add(right)
    assert used, "no audit log: the cluster was started without; `make cluster-down` first"
    # An API server that has just started refuses what it will allow.
    assert refused <= granted
    assert granted - used == NOT_A_REQUEST
