"""The command of the bundled Valkey, run as the chart has it but for the folder of its volume."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from inference_local import valkey

NAME = "inf-inference-server-valkey"
MODEL = "inference:0:ada_echo"


class Bundled:
    def __init__(self, script: str, folder: Path, wait_until: Callable[..., Any]) -> None:
        self._folder, self._wait_until = folder, wait_until
        socket = f"--port 0 --unixsocket {folder / 'socket'} "
        self._script = script.replace("/data", str(folder)).replace("--save", socket + "--save")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, password: str) -> None:
        path = f"{valkey.binary().parent}:{os.environ['PATH']}"
        env = {"PATH": path, "REDIS_PASSWORD": password}
        self._process = subprocess.Popen(
            ["sh", "-ec", self._script], env=env, stdout=subprocess.DEVNULL
        )
        self._wait_until(lambda: self.answers("default", password))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def client(self, user: str, password: str) -> redis.Redis:
        path = str(self._folder / "socket")
        return redis.Redis(unix_socket_path=path, username=user, password=password)

    def answers(self, user: str, password: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Valkey has ended"
        with self.client(user, password) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:  # Wrong passwords are among them.
                return False


@pytest.fixture
def bundled(
    render: Callable[..., Any], tmp_path: Path, wait_until: Callable[..., Any]
) -> Iterator[Bundled]:
    (container,) = render().one("StatefulSet", NAME)["spec"]["template"]["spec"]["containers"]
    *shell, script = container["command"]
    assert shell == ["sh", "-ec"]
    bundled = Bundled(script, tmp_path, wait_until)
    yield bundled
    bundled.stop()


def test_users_of_models_outlive_a_restart(bundled: Bundled) -> None:
    bundled.start("first")
    with bundled.client("default", "first") as client:
        rules = ("reset", "on", ">model", "+ping")
        client.execute_command("ACL", "SETUSER", MODEL, *rules)
        client.execute_command("ACL", "SETUSER", "somebody", *rules)
        client.acl_save()
        assert client.set("key", "value")
    bundled.stop()
    bundled.start("first")
    assert bundled.answers(MODEL, "model")
    assert not bundled.answers("somebody", "model")
    with bundled.client("default", "first") as client:
        assert client.get("key") == b"value"


def test_the_password_is_needed_and_may_change(bundled: Bundled, tmp_path: Path) -> None:
    bundled.start("first $(id) 'and \"more")
    assert not bundled.answers("default", "")
    bundled.stop()
    bundled.start("second")
    assert not bundled.answers("default", "first $(id) 'and \"more")
    file = tmp_path / "users.acl"
    assert "second" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
