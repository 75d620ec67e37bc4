"""What `helm install` prints leads where it says."""

from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest
from release import Release, kubectl, run

MODEL = "admin/smollm2"


@pytest.mark.skipif("E2E_SHARED" in os.environ, reason="the notes make a namespace")
def test_the_notes(release: Release) -> None:
    """All but the prediction, which would download the model from the hub."""
    notes = run("helm", "get", "notes", release.name, "-n", release.name)
    _, found, steps = notes.partition("A first prediction:")
    steps, rest, _ = steps.partition("  # 4. ")
    assert found
    assert rest
    port = _free_port()
    listed = 'curl -sf $URL/v1/models -H "Authorization: Bearer $TOKEN" >&3'
    script = "\n".join(("set -eu", "trap 'kill %1' EXIT", "exec 3>&1 >&2", steps, listed))
    done = subprocess.run(
        ["bash", "-c", script.replace("8000", str(port))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert MODEL in [model["id"] for model in json.loads(done.stdout)["results"]]
    kubectl("-n", "inference-admin", "delete", "inferencemodels", "--all")
    kubectl("delete", "namespace", "inference-admin")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
