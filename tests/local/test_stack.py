"""The supervisor with the real stack: what dies comes back, nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from inference_contract import statefile
from inference_gateway.settings import GatewaySettings
from inference_local import ports
from inference_local import stack as stacks
from inference_local.home import Home
from inference_operator.local import procfs
from inference_operator.local.settings import LocalSettings as OperatorSettings

BIN = Path(sys.executable).parent
PROCESSES = {"supervisor", "postgres", "valkey", "gateway", "dispatch", "operator"}


def _healthy(stack: Any) -> bool:
    try:
        return httpx.get(f"{stack.url}/health/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", ["gateway", "dispatch", "operator", "valkey", "postgres"])
def test_a_killed_process_comes_back(stack: Any, name: str, wait_until: Callable[..., Any]) -> None:
    others = {n: pid for n, pid in stack.pids().items() if n in PROCESSES - {name}}
    killed = stack.kill(name)
    wait_until(lambda: stack.pids().get(name) not in (None, killed))
    stack.wait_ready()
    wait_until(lambda: _healthy(stack))
    assert others.items() <= stack.pids().items()


def test_up_again_changes_nothing(stack: Any) -> None:
    before = stack.pids()
    done = stack.run("up")
    assert done.returncode == 0
    assert f"already up at {stack.url}" in done.stdout
    assert stack.pids() == before


def test_the_curl_line_of_up_works_as_it_is(stack: Any) -> None:
    lines = stack.run("up").stdout.splitlines()
    line = next(line for line in lines if "curl" in line).partition("try")[2]
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert '"results":' in done.stdout


def test_in_the_foreground_a_home_in_use_is_refused(stack: Any) -> None:
    done = stack.run("up", "--foreground")
    assert done.returncode == 1
    assert done.stderr == (
        f"inference: {stack.home} is in use by another instance "
        f"(pid {stack.pids()['supervisor']}, at {stack.url})\n"
    )


def test_up_after_the_supervisor_was_killed_leaves_no_orphans(
    new_stack: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stack = new_stack()
    before = stack.pids()
    assert set(before) == PROCESSES
    stack.kill("supervisor")
    stack.start()
    wait_until(lambda: not any(procfs.identity(pid) for pid in before.values()))
    assert set(stack.pids()) == PROCESSES
    assert _healthy(stack)

    # And `down` alone clears up after a killed supervisor.
    before = stack.pids()
    stack.kill("supervisor")
    stack.stop()
    assert not any(procfs.identity(pid) for pid in before.values())


def test_two_homes_run_side_by_side(stack: Any, new_stack: Callable[..., Any]) -> None:
    other = new_stack()
    assert other.url != stack.url
    assert _healthy(other)
    refused = httpx.get(
        f"{other.url}/v1/account", headers={"Authorization": f"Bearer {stack.token}"}
    )
    assert refused.status_code == httpx.codes.UNAUTHORIZED
    other.stop()
    assert not other.pids()
    assert _healthy(stack)


def test_a_taken_port_is_found_out_before_anything_starts(
    new_home: Callable[..., Any],
) -> None:
    other = new_home()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = other.run("up", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"inference: port {port} is taken by ")
    assert f"({os.getpid()}): choose another with --port" in done.stderr
    assert not (other.home / "run" / "supervisor.json").exists()


def test_a_process_that_does_not_start_is_quoted(
    new_home: Callable[..., Any],
) -> None:
    other = new_home(MAX_ATTEMPTS="many")
    done = other.run("up", "--port", "0")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "does not start: " in last
    assert "MAX_ATTEMPTS" in last.upper()
    assert not other.pids()


def test_the_foreground_stops_cleanly_on_ctrl_c(
    new_home: Callable[..., Any],
) -> None:
    stack = new_home()
    port = ports.free_port("127.0.0.1")
    argv = [str(BIN / "inference"), "up", "--foreground", "--port", str(port)]
    with subprocess.Popen(argv, env=stack.env, stdout=subprocess.PIPE, text=True) as foreground:
        stack.wait_ready()
        assert stack.pids()["supervisor"] == foreground.pid
        pids = stack.pids()
        foreground.send_signal(signal.SIGINT)
        output, _ = foreground.communicate(timeout=30)
    assert foreground.returncode == 0
    assert f"ready at http://127.0.0.1:{port}" in output
    assert not any(procfs.identity(pid) for pid in pids.values())


def test_the_supervisor_is_small(stack: Any) -> None:
    assert psutil.Process(stack.pids()["supervisor"]).memory_info().rss < 25 * 2**20


def test_rq_sees_the_queues_under_the_url_of_status(stack: Any) -> None:
    lines = stack.run("status").stdout.splitlines()
    command = next(line for line in lines if line.startswith("queues")).split()[1:]
    rq = str(BIN / command[0])
    done = subprocess.run([rq, *command[1:]], capture_output=True, text=True, check=True)
    assert "queues" in done.stdout
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.ping()


def test_every_setting_is_set_or_passed_on(stack: Any) -> None:
    planned = stacks.of(Home(stack.home), "127.0.0.1", 1)
    ours = {*planned.environment("gateway"), *stacks.FROM_USER, "SECRET_KEY"}
    elsewhere = {"REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD"}
    elsewhere |= {"DATABASE_FORCE_IPV4", "DATABASE_HOSTADDR"}
    elsewhere |= {"KUBECONFIG", "WATCH_NAMESPACES"}
    elsewhere |= {"OWNER_NAMESPACE_PREFIX", "CREATE_OWNER_NAMESPACES"}
    elsewhere |= {"OWNER_NAMESPACE_POD_SECURITY"}
    elsewhere |= {"OWNER_NAMESPACE_QUOTA", "OWNER_NAMESPACE_LARGEST_CLAIM"}
    fields = {*GatewaySettings.model_fields, *OperatorSettings.model_fields}
    assert {field.upper() for field in fields} - elsewhere <= ours


def test_the_operator_knows_neither_the_database_nor_the_key(stack: Any) -> None:
    environ = psutil.Process(stack.pids()["operator"]).environ()
    assert "REDIS_URL" in environ
    assert "DATABASE_URL" not in environ
    assert "SECRET_KEY" not in environ


def test_state_files_name_the_processes(stack: Any) -> None:
    for name in stacks.SERVICES:
        state = statefile.read(stack.home / "run" / f"{name}.json")
        assert state is not None
        assert state["pid"] == stack.pids()[name]


def test_a_postgresql_that_stands_still_neither_holds_up_the_end_nor_the_next_start(
    new_stack: Callable[..., Any],
) -> None:
    stack = new_stack()
    server = stack.pids()["postgres"]
    for pid in (server, *procfs.children(server)):
        os.kill(pid, signal.SIGSTOP)
    stack.stop()
    stack.start()
