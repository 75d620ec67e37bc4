"""SIGTERM while a part of the operator waits for an answer that does not come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from stub_api import StubApi

PROGRAM = """
import signal, threading
from queue import SimpleQueue
from inference_operator.cluster import operator as program
from inference_operator.cluster.cache.lister import Lister

def watch(**_):  # In place of kopf, which needs more of an API server.
    told = SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: told.put(None))
    print("watching", flush=True)
    told.get()

program.kopf.run = watch
program._END_SECONDS = 1.0
Lister.close = lambda _: threading.Event().wait()
raise SystemExit(program.main())
"""


def test_it_ends_all_the_same_and_says_so(tmp_path: Path, api: StubApi) -> None:
    one = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    cluster = {"name": "it", "cluster": {"server": api.url}}
    user = {"name": "it", "user": {"token": "of the tests"}}
    config = tmp_path / "kubeconfig"
    known: dict[str, Any] = {"contexts": [one], "clusters": [cluster], "users": [user]}
    config.write_text(yaml.safe_dump({"current-context": "it", **known}))
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(config),
        "REDIS_URL": "redis://127.0.0.1:1",
        "RUNNER_REDIS_URL": "redis://redis.test:6379",
        "RUNNER_IMAGE": "runner:1",
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": "0",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watching\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    said = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert "ended without what still waits for an answer after 1 s" in said
