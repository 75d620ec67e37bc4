"""Which version of a changed model runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference_contract.inferencemodel import Reason, RolloutStatus
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.runner_pod import RunnerPod
from inference_operator.cluster.rollout.rollout import (
    assess,
    has_no_image,
    lacks_config,
    running,
    template_of,
)

OLD, NEW = "old", "new"
SERVED = RolloutStatus(hash=OLD, version="1")
TAKEN_BACK = RolloutStatus(hash=OLD, version="1", failed_hash=NEW, failed_message="LoadFailed: no")
POD = RunnerPod("p", "uid", NEW)
READY = replace(POD, is_ready=True)
DOWNLOADING = replace(POD, container="fetch", running_since="2026-01-02T03:04:05Z")


def _problem(reason: Reason, restarts: int = 0) -> PodProblem:
    return PodProblem(reason, "no", replace(POD, restarts=restarts))


def _no_pull(said: str) -> PodProblem:
    pod = replace(POD, waiting=("ErrImagePull", said))
    return PodProblem(Reason.IMAGE_PULL_BACK_OFF, "no", pod)


def _no_config(said: str) -> PodProblem:
    pod = replace(POD, waiting=("CreateContainerConfigError", said))
    return PodProblem(Reason.CREATE_CONTAINER_CONFIG_ERROR, "no", pod)


NOT_FOUND = 'failed to resolve reference "r/x:1": r/x:1: not found'
REFUSED = 'failed to resolve reference "r/x:1": dial tcp 10.0.0.1:443: connect: connection refused'


@pytest.mark.parametrize(
    ("before", "desired", "pods", "problem", "overdue", "after"),
    [
        # The first version has nothing to go back to.
        (RolloutStatus(), NEW, [POD], None, "", RolloutStatus()),
        (RolloutStatus(), NEW, [POD], _problem(Reason.LOAD_FAILED, 3), "", RolloutStatus()),
        (RolloutStatus(), NEW, [READY], None, "", RolloutStatus(hash=NEW, version="2")),
        # A change: what was ready counts until the new one is.
        (SERVED, NEW, [POD], None, "", SERVED),
        (SERVED, NEW, [replace(READY, hash=OLD)], None, "", SERVED),
        (SERVED, NEW, [POD, READY], None, "", RolloutStatus(hash=NEW, version="2")),
        # A failure is given a second chance, but for one that only a person can mend.
        (SERVED, NEW, [POD], _problem(Reason.LOAD_FAILED), "", SERVED),
        (SERVED, NEW, [POD], _problem(Reason.LOAD_FAILED, 1), "", TAKEN_BACK),
        (SERVED, NEW, [POD], _problem(Reason.UNSCHEDULABLE), "", SERVED),
        (
            SERVED,
            NEW,
            [POD],
            _no_pull(NOT_FOUND),
            "",
            TAKEN_BACK.model_copy(update={"failed_message": "ImagePullBackOff: no"}),
        ),
        (
            SERVED,
            NEW,
            [POD],
            _no_config('secret "theirs" not found'),
            "",
            TAKEN_BACK.model_copy(update={"failed_message": "CreateContainerConfigError: no"}),
        ),
        # What time may heal has until the Deployment's deadline.
        (SERVED, NEW, [POD], _no_config('secret "m-runner" not found'), "", SERVED),
        (SERVED, NEW, [POD], _no_pull(REFUSED), "", SERVED),
        (
            SERVED,
            NEW,
            [POD],
            _no_pull(REFUSED),
            "deadline",
            TAKEN_BACK.model_copy(update={"failed_message": "ImagePullBackOff: no"}),
        ),
        (
            SERVED,
            NEW,
            [POD],
            _problem(Reason.UNSCHEDULABLE),
            "deadline",
            TAKEN_BACK.model_copy(update={"failed_message": "Unschedulable: no"}),
        ),
        (
            SERVED,
            NEW,
            [POD],
            None,
            "deadline",
            TAKEN_BACK.model_copy(update={"failed_message": "deadline"}),
        ),
        # A download may take longer than that, and then the load has not begun.
        (SERVED, NEW, [DOWNLOADING], None, "deadline", SERVED),
        (SERVED, NEW, [replace(DOWNLOADING, container="runner")], None, "deadline", SERVED),
        # Taken back, it stays so, whatever its last pods still say; another change is tried.
        (TAKEN_BACK, NEW, [POD], _problem(Reason.OOM_KILLED, 5), "", TAKEN_BACK),
        (TAKEN_BACK, "third", [POD], None, "", SERVED),
        (
            TAKEN_BACK,
            OLD,
            [replace(READY, hash=OLD)],
            None,
            "",
            RolloutStatus(hash=OLD, version="2"),
        ),
        # What ran before fails: nobody changed it, so that nothing is to be taken back.
        (SERVED, OLD, [], _problem(Reason.CRASH_LOOP_BACK_OFF, 9), "deadline", SERVED),
    ],
)
def test_judge(
    before: RolloutStatus,
    desired: str,
    pods: list[RunnerPod],
    problem: PodProblem | None,
    overdue: str,
    after: RolloutStatus,
) -> None:
    assert assess(before, desired, "2", pods, problem, overdue=overdue, own="m-runner") == after


RESOLVE = 'failed to pull and unpack image "r.io/a/x:1": failed to resolve reference "r.io/a/x:1": '
COPY = 'failed to pull and unpack image "r.io/a/x:1": failed to copy: httpReadSeeker: failed open: '
HEAD = "unexpected status from HEAD request to https://r.io/v2/a/x/manifests/1: "
TOKEN = "failed to authorize: failed to fetch oauth token: unexpected status from POST request to "
DAEMON = "rpc error: code = Unknown desc = Error response from daemon: "
READ = "initializing source docker://r.io/a/x:1: reading manifest 1 in r.io/a/x: "


@pytest.mark.parametrize(
    "message",
    [
        RESOLVE + "r.io/a/x:1: not found",
        f'Back-off pulling image "r.io/a/x:1": ErrImagePull: {RESOLVE}r.io/a/x:1: not found',
        f"rpc error: code = NotFound desc = {RESOLVE}r.io/a/x:1: not found",
        RESOLVE + "pull access denied, repository does not exist or may require authorization: "
        "server message: insufficient_scope: authorization failed",
        RESOLVE + HEAD + "401 Unauthorized",
        RESOLVE + HEAD + "403 Forbidden",
        RESOLVE + TOKEN + "https://r.io/token: 403 Forbidden",
        # CRI-O and Docker.
        READ + "manifest unknown",
        READ + "unauthorized: access to the requested resource is not authorized",
        READ + "errors:\ndenied: requested access to the resource is denied\nunauthorized: "
        "authentication required",
        DAEMON + "manifest for a/x:1 not found: manifest unknown: manifest unknown",
        DAEMON + "pull access denied for a/x, repository does not exist or may require 'docker "
        "login': denied: requested access to the resource is denied",
        DAEMON + 'Head "https://r.io/v2/a/x/manifests/1": denied',
        'Failed to inspect image "A/x": rpc error: code = Unknown desc = invalid reference format',
    ],
)
def test_there_is_no_image(message: str) -> None:
    assert has_no_image("ErrImagePull", message)


@pytest.mark.parametrize(
    "message",
    [
        "",
        'Back-off pulling image "r.io/denied/not-found:forbidden"',
        RESOLVE + HEAD + "503 Service Unavailable",
        RESOLVE + HEAD + "429 Too Many Requests",
        RESOLVE + "pulling from host r.io failed with status code [manifests 1]: 502 Bad Gateway",
        RESOLVE + TOKEN + "https://auth.r.io/token: 429 Too Many Requests",
        RESOLVE + 'failed to do request: Head "https://r.io/v2/denied/x/manifests/1": dial tcp: '
        "lookup r.io on 10.96.0.10:53: no such host",
        RESOLVE + 'failed to do request: Head "https://r.io/v2/a/x/manifests/1": dial tcp '
        "10.0.0.1:443: i/o timeout",
        RESOLVE + 'failed to do request: Head "https://r.io/v2/a/x/manifests/1": dial tcp '
        "10.0.0.1:443: connect: permission denied",
        RESOLVE + 'failed to do request: Head "https://r.io/v2/a/x/manifests/1": net/http: TLS '
        "handshake timeout",
        RESOLVE + 'failed to do request: Head "https://r.io/v2/a/x/manifests/1": EOF',
        RESOLVE + 'failed to do request: Head "https://r.io/v2/a/x/manifests/1": tls: failed to '
        "verify certificate: x509: certificate signed by unknown authority",
        COPY + "unexpected status code https://r.io/v2/a/x/manifests/sha256:8d: 429 Too Many "
        "Requests - Server message: toomanyrequests: You have reached your unauthenticated pull "
        "rate limit.",
        # Of layers: a link that is no longer valid, a mirror that does not have all yet, and a node
        # that has lost what it had.
        COPY + "unexpected status code https://cdn.r.io/sha256:8d?token=1: 403 Forbidden",
        COPY + "content at https://r.io/v2/a/x/manifests/sha256:8d not found: not found",
        "failed to extract layer sha256:4d: failed to get reader from content store: content "
        "digest sha256:51: not found",
        READ.replace("a/x", "denied/x") + 'Get "https://r.io/v2/": net/http: request canceled',
        DAEMON + "toomanyrequests: You have reached your pull rate limit.",
        DAEMON + 'Get "https://r.io/v2/": dial tcp 10.0.0.1:443: connect: connection refused',
    ],
)
def test_an_image_may_still_come(message: str) -> None:
    assert not has_no_image("ErrImagePull", message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('secret "theirs" not found', True),
        ('configmap "theirs" not found', True),
        ("couldn't find key token in Secret ns/theirs", True),
        ("couldn't find key token in ConfigMap ns/theirs", True),
        ('container has runAsNonRoot and image will run as root (pod: "p", container: r)', True),
        ("container has runAsNonRoot and image has non-numeric user (me), cannot verify", True),
        ("couldn't find key REDIS_URL in Secret ns/m-runner", False),
        ("failed to sync secret cache: timed out waiting for the condition", False),
        ("services have not yet been read at least once, cannot construct envvars", False),
    ],
)
def test_what_a_document_names_and_is_not_there(message: str, expected: bool) -> None:
    assert lacks_config(message, "m-runner") is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("InvalidImageName", True),
        ("ErrImageNeverPull", True),
        ("ImagePullBackOff", False),
        ("RegistryUnavailable", False),
    ],
)
def test_what_is_never_pulled(reason: str, expected: bool) -> None:
    assert has_no_image(reason, "no") is expected


@pytest.mark.parametrize(
    ("rollout", "desired", "expected"),
    [
        (RolloutStatus(), NEW, NEW),
        (SERVED, NEW, NEW),
        (TAKEN_BACK, NEW, OLD),
        (TAKEN_BACK, "third", "third"),
    ],
)
def test_running(rollout: RolloutStatus, desired: str, expected: str) -> None:
    assert running(rollout, desired) == expected


def _replica_set(revision: str, owner: str, image: str) -> dict[str, Any]:
    return {
        "metadata": {
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {
            "template": {
                "metadata": {"labels": {"a": "b", "pod-template-hash": "x"}},
                "spec": {"image": image},
            }
        },
    }


def test_the_template_of_the_latest_revision() -> None:
    sets = [_replica_set("9", "mine", "a"), _replica_set("10", "mine", "b")]
    sets.append(_replica_set("11", "another's", "c"))
    assert template_of(sets, "mine") == {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"image": "b"},
    }
    assert template_of(sets, "nobody's") is None


def test_a_replica_set_without_owner_or_revision_is_not_the_latest() -> None:
    orphan = _replica_set("9", "mine", "a")
    del orphan["metadata"]["ownerReferences"]
    unnumbered, first = _replica_set("0", "mine", "b"), _replica_set("1", "mine", "c")
    del unnumbered["metadata"]["annotations"]
    found = template_of([orphan, unnumbered, first], "mine")
    assert found
    assert found["spec"]["image"] == "c"
    assert template_of([orphan], "mine") is None
