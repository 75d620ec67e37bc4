"""A full disk: refused with a clear message, nothing lost, and work goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 300 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=300m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(argv, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
                file.flush()
        except OSError:
            return ballast


def test_a_full_disk_refuses_clearly_and_recovers(
    small_disk: Path, new_client: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    client = new_client(home=str(small_disk / "home"), LEASE_SECONDS="3", SWEEP_SECONDS="0.2")
    model_id = client.apply_custom(
        "slow", "slow:Slow", ("text",), parameters={"seconds": 0.01}, minReplicas=1
    )
    before = client.predict(model_id, {"text": "before"}, wait=30)
    assert before["status"] == "succeeded"

    ballast = _fill(small_disk)
    accepted: list[str] = []

    def refused() -> Any:
        body = {"model_id": model_id, "input": {"text": "x" * 20_000}}
        reply = client.http.post("/v1/predictions", json=body)
        if reply.is_success:
            accepted.append(reply.json()["id"])
            return None
        return reply

    reply = wait_until(refused, timeout=60)
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert "nothing was stored" in reply.json()["detail"].lower()

    ballast.unlink()
    wait_until(lambda: refused() is None and accepted, timeout=60)
    wait_until(lambda: client.count(model_id, "succeeded") == len(accepted) + 1, timeout=60)
    stored = {row[0] for row in client.sql("SELECT id::text FROM predictions")}
    assert stored == {before["id"], *accepted}
