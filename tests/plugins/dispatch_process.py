"""How tests start `dispatch` as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ARGV = [sys.executable, "-m", "inference_gateway.dispatch"]


def environment(database_url: str, redis_url: str, folder: Path, **settings: str) -> dict[str, str]:
    """Its state file is `folder/state.json`."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "a-secret-of-the-tests-with-more-than-32-bytes",
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": "0",
        "STATE_FILE": str(folder / "state.json"),
        **settings,
    }
