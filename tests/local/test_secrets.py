"""A long story, and then a search for every secret of it wherever others may look."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

MODELS = Path(__file__).parent / "models"


class Story:
    """What an account `ada` does on a stack; `secrets` is by what they are."""

    def __init__(self, stack: Any, wait_until: Callable[..., Any]) -> None:
        self.stack = stack
        self.wait_until = wait_until
        self.secrets: dict[str, str] = {}
        self.told: list[str] = []
        """What commands said to whoever ran them."""

    def secret(self, what: str, value: str = "") -> str:
        return self.secrets.setdefault(what, value or f"hush{uuid.uuid4().hex}")

    def call(self, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return httpx.request(method, f"{self.stack.url}{path}", headers=headers, **options)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg2.connect(self.stack.database_url) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def register(self, name: str) -> str:
        """An access token."""
        password = self.secret(f"password of {name}")
        person = {"username": name, "email": f"{name}@example.com", "password": password}
        assert self.call("POST", "/v1/auth/register", json=person).status_code == 201
        again = person | {"password": self.secret("password of a conflict")}
        assert self.call("POST", "/v1/auth/register", json=again).status_code == 409
        form = {"username": name, "password": self.secret("wrong password")}
        assert self.call("POST", "/v1/auth/token", data=form).status_code == 401
        broken = person | {"username": "?", "password": [self.secret("password in a list")]}
        assert self.call("POST", "/v1/auth/register", json=broken).status_code == 422
        answer = self.call("POST", "/v1/auth/token", data=form | {"password": password})
        return self.secret(f"access token of {name}", answer.json()["access_token"])

    def accounts(self) -> tuple[str, str]:
        """API tokens of ada and bob."""
        bob, ada = self.register("bob"), self.register("ada")
        made = self.call("POST", "/v1/auth/tokens", ada, json={}).json()
        gone = self.secret("revoked API token", made["token"])
        assert self.call("DELETE", f"/v1/auth/tokens/{made['id']}", ada).status_code == 204
        assert self.call("GET", "/v1/account", gone).status_code == 401
        assert self.call("GET", "/v1/account", self.secret("token of nobody")).status_code == 401
        token = self.call("POST", "/v1/auth/tokens", ada, json={}).json()["token"]
        key = self.call("GET", "/v1/webhooks/default/secret", ada).json()["key"]
        self.secret("webhook secret", key)
        login = ("login", self.stack.url, "--token", "-")
        home = self.stack.home.parent / "client"
        done = self.stack.run(*login, "--home", str(home), input=token)
        assert done.returncode == 0, done.stderr
        self.told += [done.stdout, done.stderr]
        return self.secret("API token", token), bob

    def apply(self) -> None:
        document = {
            "apiVersion": "inference-server.dev/v1alpha1",
            "kind": "InferenceModel",
            "metadata": {"name": "discreet", "namespace": "admin"},
            "spec": {
                "type": "custom",
                "source": {"path": str(MODELS)},
                "engine": {"className": "discreet:Discreet"},
                "inputSchema": {"text": {"type": "string"}},
                "visibility": "public",
                "minReplicas": 1,
                "env": [{"name": "API_KEY", "value": self.secret("value in env")}],
            },
        }
        path = self.stack.home.parent / "model.json"
        path.write_text(json.dumps(document))
        done = self.stack.run("models", "apply", "-f", str(path))
        assert done.returncode == 0, done.stderr
        self.told += [done.stdout, done.stderr]

    def predictions(self, token: str) -> None:
        for kind in ("fine", "fail", "odd", "nul"):
            body = {
                "version": "admin/discreet",
                "input": {"text": f"{kind} {self.secret(f'input that is {kind}')}"},
            }
            made = self.call("POST", "/v1/predictions", token, json=body).json()
            self.wait_until(
                lambda made=made: self.call("GET", f"/v1/predictions/{made['id']}", token).json()[
                    "completed_at"
                ],
                timeout=60,
            )
        wrong = {"version": "admin/discreet", "input": {"text": [self.secret("wrong input")]}}
        assert self.call("POST", "/v1/predictions", token, json=wrong).status_code == 422
        hooked = {
            "version": "admin/discreet",
            "input": {"text": "x"},
            "webhook": f"https://u:{self.secret('password in a webhook')}@hook.invalid/x",
        }
        self.call("POST", "/v1/predictions", token, json=hooked)
        files = {"text": (None, self.secret("multipart"), "text/plain")}
        self.call("POST", "/v1/predictions/multipart", token, files=files)

    def misfortunes(self, token: str) -> None:
        self.sql("ALTER TABLE api_tokens RENAME TO away")
        body = {"name": self.secret("name of a token")}
        ada = self.secrets["access token of ada"]
        failed = self.call("POST", "/v1/auth/tokens", ada, json=body)
        assert failed.status_code >= 500
        self.sql("ALTER TABLE away RENAME TO api_tokens")
        self.sql("ALTER TABLE predictions RENAME base_url TO away")
        asked = {
            "version": "admin/discreet",
            "input": {"text": self.secret("input that PostgreSQL did not take")},
        }
        failed = self.call("POST", "/v1/predictions", token, json=asked)
        assert failed.status_code >= 500
        self.sql("ALTER TABLE predictions RENAME away TO base_url")
        self.stack.kill("gateway")
        self.stack.wait_ready()
        self.wait_until(lambda: self._is_up(token), timeout=30)
        deleted = self.stack.run("users", "delete", "ada", "--yes")
        assert deleted.returncode == 0, deleted.stderr
        self.told += [deleted.stdout, deleted.stderr]

    def wrong_settings(self) -> None:
        secret = self.secret("password in a URL")
        good = {"DATABASE_URL": self.stack.database_url, "REDIS_URL": self.stack.redis_url}
        for name, url in (
            ("DATABASE_URL", f"postgresql://u:{secret}@host:port/x"),
            ("DATABASE_URL", f"postgresql://u:{secret}@127.0.0.1:1/x"),
            ("REDIS_URL", f"nonsense:{secret}"),
            ("REDIS_URL", f"redis://:{secret}@127.0.0.1:1/none"),
        ):
            for module in ("", ".dispatch", ".migrate", ".auth.bootstrap --username admin"):
                command = [sys.executable, "-m", *f"inference_gateway{module}".split()]
                given = {**self.stack.env, **good, "API_PORT": "0", "SECRET_KEY": "x" * 40}
                try:
                    done = subprocess.run(
                        command,
                        env=given | {name: url},
                        capture_output=True,
                        text=True,
                        check=False,
                        timeout=4,
                    )
                except subprocess.TimeoutExpired as late:
                    self.told += [str(late.stdout), str(late.stderr)]
                else:
                    self.told += [done.stdout, done.stderr]

    def known_to_the_stack(self) -> None:
        self.secret("administrator's token", self.stack.token)
        for path in (self.stack.home / "secrets").iterdir():
            if path.is_file():
                self.secret(f"secrets/{path.name}", path.read_text().strip())
        for url in (self.stack.redis_url, self.stack.database_url):
            if password := urlsplit(url).password:
                self.secret(f"password of {urlsplit(url).scheme}", password)
        for username, hashed in self.sql("SELECT username, password_hash FROM users"):
            if len(hashed) > 8:
                self.secret(f"hash of {username}", hashed)

    def _is_up(self, token: str) -> bool:
        try:
            return self.call("GET", "/v1/account", token).status_code == 200
        except httpx.HTTPError:
            return False


def found(secrets: dict[str, str], text: str) -> set[str]:
    return {what for what, secret in secrets.items() if secret in text}


@pytest.fixture
def story(new_stack: Callable[..., Any], wait_until: Callable[..., Any]) -> Story:
    return Story(new_stack(), wait_until)


def test_no_secret_is_told_to_others(story: Story) -> None:
    stack = story.stack
    ada, bob = story.accounts()
    story.apply()
    story.predictions(ada)
    story.known_to_the_stack()
    seen = {
        path: story.call("GET", path, bob).text
        for path in ("/v1/models", "/v1/predictions", "/v1/models/admin/discreet", "/v1/account")
    }
    seen |= {path: story.call("GET", path).text for path in ("/metrics", "/health")}
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path)]
    seen["command lines"] = b"\n".join(processes).decode(errors="replace")
    story.misfortunes(bob)
    story.wrong_settings()
    seen["commands"] = "\n".join(story.told)
    for folder in ("logs", "status", "run"):
        for path in (stack.home / folder).rglob("*"):
            # Run files that hold a key are for their owner only.
            is_ours = folder == "run" and stat.S_IMODE(path.lstat().st_mode) == 0o600
            if path.is_file() and not is_ours:
                seen[str(path.relative_to(stack.home))] = path.read_text(errors="replace")
    assert any(name.startswith("logs/") and text for name, text in seen.items())
    leaks = {where: found(story.secrets, text) for where, text in seen.items()}
    assert {where: what for where, what in leaks.items() if what} == {}


def _reads(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
