"""A stack to which schemathesis may do everything, and what it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from inference_stack import Stack
from prometheus_client.parser import text_string_to_metric_families

_HERE = Path(__file__).parent
_LIFTED = (
    *("RATE_PER_TOKEN", "RATE_PER_USER", "RATE_PER_ADDRESS"),
    *("REGISTRATIONS_PER_ADDRESS", "REGISTRATIONS_PER_HOUR"),
    *("QUOTA_MODELS", "QUOTA_REPLICAS", "QUOTA_MIN_REPLICAS", "QUOTA_GPUS", "QUOTA_CACHE_BYTES"),
    *("QUOTA_API_TOKENS", "QUOTA_OPEN_PREDICTIONS"),
)
SETTINGS = {
    **dict.fromkeys(_LIFTED, "0"),
    "ACCESS_TOKEN_EXPIRE_MINUTES": "1440",
    # Whoever reads the stream of a prediction that no runner takes waits for its end.
    "PREDICTION_DEADLINE_SECONDS": "2",
    "SWEEP_SECONDS": "0.2",
    # The echo's. Models that are registered meanwhile neither start nor download anything.
    "LOCAL_MAX_RUNNERS": "1",
}
_PARTS = {"ada": ("--exclude-tag", "users"), "admin": ("--include-tag", "users")}
"""Who calls what: only administrators see accounts."""
_ECHO: dict[str, Any] = {
    "type": "custom",
    "source": {"path": str(_HERE / "models")},
    "engine": {"className": "echo:Echo"},
    "visibility": "public",
    "minReplicas": 1,
    "inputSchema": {
        "text": {"type": "string", "required": False},
        "count": {"type": "integer", "required": False, "minimum": 1},
    },
}


class Fuzzed:
    """
    Args:
        stack: started, with `SETTINGS`.
        folder: for what schemathesis reads and writes.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._folder = folder
        admin = {"Authorization": f"Bearer {stack.token}"}
        self._http = httpx.Client(base_url=stack.url, headers=admin, timeout=60)
        self._make_echo()
        tokens = {name: self._make_account(name) for name in ("ada", "bob")}
        self._write_accounts({**tokens, "admin": stack.token})

    def attack(self, *options: str) -> str:
        """One run of schemathesis. What it found, in its words; empty if nothing."""
        found = ""
        for account, part in _PARTS.items():
            done = self._run(account, *part, *options)
            if done.returncode != 0:
                found += done.stdout + done.stderr
        return found

    def answers(self) -> Counter[tuple[str, str]]:
        """Method and status of every request that the gateway has answered so far."""
        text = self._http.get("/metrics").raise_for_status().text
        return Counter(
            {
                (sample.labels["method"], sample.labels["status"]): int(sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "inference_gateway_requests_total"
            }
        )

    def health(self) -> dict[str, Any]:
        return dict(self._http.get("/health").json())

    def close(self) -> None:
        self._http.close()

    def _run(self, account: str, *options: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "schemathesis"
        config = ["--config-file", str(_HERE / "schemathesis.toml")]
        document = str(self._http.base_url.join("/openapi.json"))
        variables = {
            "FUZZ_ACCOUNTS": str(self._accounts),
            "FUZZ_ACCOUNT": account,
            "FUZZ_HOOKS": str(_HERE / "hooks.py"),
        }
        return subprocess.run(
            [str(program), *config, "run", document, "--no-color", *options],
            cwd=self._folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def _make_echo(self) -> None:
        """A model of the administrator's, for everybody, with its runner."""
        document = {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": "echo", "namespace": "admin"},
            "spec": _ECHO,
        }
        self._http.put("/v1/models/admin/echo", json=document).raise_for_status()
        asked = {"model": "admin/echo", "input": {"text": "hello"}}
        headers = {"Prefer": "wait", "Cancel-After": "60s"}
        made = self._http.post("/v1/predictions", json=asked, headers=headers).raise_for_status()
        assert made.json()["output"] == asked["input"], made.text

    def _make_account(self, name: str) -> str:
        """Its access token."""
        account = {"username": name, "password": "correct horse battery"}
        mail = {"email": f"{name}@example.com"}
        self._http.post("/v1/users", json=account | mail).raise_for_status()
        logged_in = self._http.post("/v1/auth/token", data=account).raise_for_status()
        return str(logged_in.json()["access_token"])

    def _write_accounts(self, tokens: dict[str, str]) -> None:
        """In the format of Web Fuzzing Commons."""
        accounts = [
            {
                "name": name,
                "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}],
            }
            for name, token in tokens.items()
        ]
        self._accounts = self._folder / "accounts.json"
        self._accounts.write_text(json.dumps({"auth": accounts}))
