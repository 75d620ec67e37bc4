"""Dispatch as it is started: what its settings mean for webhooks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import dispatch_process
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
    environment = dispatch_process.environment(
        database_url, redis_url, tmp_path, WEBHOOK_ALLOW_LOOPBACK="true", **settings
    )
    argv = dispatch_process.ARGV
    process = subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: it.got)
    finally:
        process.kill()
        process.wait()
    said = json.loads(it.got[0][2])
    assert said["urls"]["get"] == f"{url}/v1/predictions/{said['id']}"
