"""A runner as the operator starts it: its environment, its state file, its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import redis

from inference_contract.pods import RunnerExit

Start = Callable[..., Any]
WaitUntil = Callable[..., Any]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_runner_works_is_seen_and_drains(
    runner: Start, sample_spec: Any, queue: Any, wait_until: WaitUntil
) -> None:
    process = runner(sample_spec("Actor"))
    wait_until(process.is_ready)
    port = process.state["port"]
    assert get(port, "/health/live")[0] == get(port, "/health/ready")[0] == 200
    queue.put(queue.job("a", do="print"), queue.job("b", do="sleep", seconds=1))
    wait_until(lambda: queue.events("b"))
    process.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: process.state["phase"] == "Draining")
    assert get(port, "/health/ready")[0] == 503
    metrics = get(port, "/metrics")[1]
    assert 'inference_runner_predictions_total{status="succeeded"} 1.0' in metrics
    queue.put_one("c", do="too late")
    assert process.popen.wait(10) == RunnerExit.OK
    assert queue.end("a")["output"] == "print"
    assert queue.end("b")["output"] == "sleep"
    assert queue.end("c") is None
    assert "noise on stdout" in process.log
    assert '"prediction": "a"' in process.log


@pytest.mark.parametrize(
    ("class_name", "more", "message"),
    [
        ("RaisesInLoad", {}, "RuntimeError: the weights are made of cheese"),
        ("NoPredict", {}, "NoPredict has no method predict"),
        ("NoSuchClass", {}, "there is no class NoSuchClass in "),
        ("TakesParameters", {"parameters": {"colour": 1}}, "takes no parameter colour"),
        ("HangsInLoad", {"timeouts": {"loadSeconds": 1}}, "did not load within 1 s"),
        ("Actor", {"source": {"path": "/no/such/folder"}}, "/no/such/folder does not exist"),
    ],
)
def test_a_failed_load_is_told(
    runner: Start, sample_spec: Any, class_name: str, more: dict[str, Any], message: str
) -> None:
    process = runner({**sample_spec(class_name, **more)})
    assert process.popen.wait(20) == RunnerExit.LOAD_FAILED
    assert process.state["phase"] == "Failed"
    assert message in process.state["message"]
    assert message in process.log


def test_a_hung_prediction_fails_and_ends_the_process(
    runner: Start, sample_spec: Any, queue: Any, wait_until: WaitUntil
) -> None:
    process = runner(sample_spec("Stubborn", timeouts={"predictSeconds": 1}))
    wait_until(process.is_ready)
    queue.put_one("a")
    assert process.popen.wait(20) == RunnerExit.HUNG
    assert queue.end("a")["error_code"] == "prediction_timeout"
    assert queue.leftovers() == []


def test_a_redis_that_stands_still_for_longer_than_a_lease_ends_no_runner(
    runner: Start,
    sample_spec: Any,
    queue: Any,
    redis_client: redis.Redis,
    wait_until: WaitUntil,
) -> None:
    process = runner(sample_spec("Actor"), RUNNER_LEASE_SECONDS="1")
    wait_until(process.is_ready)
    redis_client.execute_command("CLIENT", "PAUSE", 4000, "ALL")
    redis_client.ping()  # Answered after the pause.
    queue.put_one("a", do="print")
    assert wait_until(lambda: queue.end("a"))["output"] == "print"
    assert process.popen.poll() is None


def test_a_hung_batch_is_given_back_and_each_is_a_suspect(
    runner: Start, sample_spec: Any, queue: Any
) -> None:
    queue.put(queue.job("a"), queue.job("b"))
    process = runner(sample_spec("StubbornBatch", timeouts={"predictSeconds": 1}))
    assert process.popen.wait(20) == RunnerExit.HUNG
    for name in "ab":
        assert queue.end(name) is None
        said = queue.events(name)[-1]
        assert (said["type"], said["suspect"]) == ("returned", True)
    assert queue.leftovers() == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "INFERENCE_MODEL_ID is not set"),
        ({"INFERENCE_MODEL_ID": "a_b"}, "INFERENCE_MODEL_ID must be owner/name"),
        (
            {"INFERENCE_MODEL_ID": "a/b", "INFERENCE_MODEL_SPEC": '{"type":"x","source":{}}'},
            "INFERENCE_MODEL_SPEC: type: ",
        ),
        ({"INFERENCE_MODEL_ID": "a/b", "INFERENCE_MODEL_SPEC": "{"}, "INFERENCE_MODEL_SPEC: "),
    ],
)
def test_a_wrong_environment_is_one_clear_line(environ: dict[str, str], message: str) -> None:
    path = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "inference_runner"],
        env=path | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == RunnerExit.MISCONFIGURED
    assert done.stderr.startswith(f"inference_runner: {message}")
    assert done.stderr.count("\n") == 1
