"""Dispatch as it is started: what its settings mean for webhooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"PUBLIC_URL": "https://api.example.com/"}, "https://api.example.com"),
        ({}, "http://as-the-creator-came"),
    ],
)
def test_a_webhook_names_the_api_by_its_public_url_or_as_the_creator_came(
    lab: Any,
    receiver: Any,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    wait_until: Any,
    settings: dict[str, str],
    url: str,
) -> None:
    it = receiver((200, {}))
    lab.insert(it.url, base_url="http://as-the-creator-came/")
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "a-secret-of-the-tests-with-more-than-32-bytes",
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": "0",
        "WEBHOOK_ALLOW_LOOPBACK": "true",
        **settings,
    }
    argv = [sys.executable, "-m", "inference_gateway.dispatch"]
    process = subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: it.got)
    finally:
        process.kill()
        process.wait()
    said = json.loads(it.got[0][2])
    assert said["urls"]["get"] == f"{url}/v1/predictions/{said['id']}"
