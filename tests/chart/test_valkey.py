"""The commands of the bundled Valkey, run as they are but for the folder of its volume."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from inference_local import valkey

MODEL = "inference:0:ada_echo"


class Bundled:
    def __init__(
        self, container: dict[str, Any], folder: Path, wait_until: Callable[..., Any]
    ) -> None:
        self._folder, self._wait_until = folder, wait_until
        *shell, script = container["command"]
        assert shell == ["sh", "-ec"]
        self._ready = container["readinessProbe"]["exec"]["command"]
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

    def is_ready(self, password: str) -> bool:
        """Runs the probe; what `valkey-cli` was called with is in the file `arguments`."""
        client = self._folder / "bin" / "valkey-cli"
        client.parent.mkdir(exist_ok=True)
        client.write_text(
            f"""#!/bin/sh
            echo "$@" >>{self._folder / "arguments"}
            exec {valkey.binary().parent / "valkey-cli"} -s {self._folder / "socket"} "$@"
            """
        )
        client.chmod(0o700)
        env = {"PATH": f"{client.parent}:{os.environ['PATH']}", "REDIS_PASSWORD": password}
        done = subprocess.run(self._ready, env=env, capture_output=True, timeout=20, check=False)
        return done.returncode == 0

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
    request: pytest.FixtureRequest,
    render: Callable[..., Any],
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> Iterator[Bundled]:
    """With the values that a test may give as its parameter."""
    made = render(getattr(request, "param", {}))
    bundled = Bundled(made.containers()["valkey/valkey"], tmp_path, wait_until)
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


def test_it_holds_less_than_its_memory(bundled: Bundled) -> None:
    bundled.start("first")
    with bundled.client("default", "first") as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(700 * 1024 * 1024)}


@pytest.mark.parametrize("bundled", [{"valkey": {"maxmemory": "4mb"}}], indirect=True)
def test_a_full_one_refuses_writes_and_keeps_what_it_has(bundled: Bundled) -> None:
    bundled.start("first")
    with bundled.client("default", "first") as client:
        client.set("key", "value")
        flood = client.pipeline(transaction=False)
        for number in range(100):
            flood.set(f"large:{number}", b"x" * 100_000)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            flood.execute()
        assert client.get("key") == b"value"
    assert bundled.answers("default", "first")


def test_the_probe_knows_the_password_and_does_not_show_it(
    bundled: Bundled, tmp_path: Path
) -> None:
    bundled.start("first $(id) 'and \"more")
    assert bundled.is_ready("first $(id) 'and \"more")
    assert not bundled.is_ready("second")
    assert (tmp_path / "arguments").read_text() == "ping\nping\n"


def test_no_client_stops_it_for_the_others(bundled: Bundled) -> None:
    """The limits are those of the embedded Valkey."""
    bundled.start("first")
    sizes = {"32mb": str(32 << 20), "64mb": str(64 << 20)}
    with bundled.client("default", "first") as client:
        for name, value in valkey.LIMITS.items():
            assert client.config_get(name) == {name: sizes.get(value, value)}


@pytest.mark.parametrize("bundled", [{"config": {"maxBodyBytes": 50_000_000}}], indirect=True)
def test_a_larger_body_passes_through_it(bundled: Bundled) -> None:
    bundled.start("first")
    with bundled.client("default", "first") as client:
        assert client.set("key", b"x" * 50_000_000)


def test_the_probe_of_life_means_that_commands_are_answered(
    bundled: Bundled, render: Callable[..., Any]
) -> None:
    container = render({}).containers()["valkey/valkey"]
    assert container["livenessProbe"]["exec"] == container["readinessProbe"]["exec"]
    bundled.start("first")
    with bundled.client("default", "first") as client, bundled.client("default", "first") as other:
        client.config_set("busy-reply-threshold", 1)
        pool = ThreadPoolExecutor(1)
        busy = pool.submit(client.eval, "while true do end", 0)
        try:
            assert not bundled.is_ready("first")
        finally:
            other.script_kill()
        with pytest.raises(redis.ResponseError):
            busy.result(10)
    assert bundled.is_ready("first")
