"""The `inference` command against a real stack."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pytest

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).parent / "inference")
PROGRAM = "inference" if shutil.which("inference") == COMMAND else COMMAND
"""As the command names itself: so that what it says can be typed."""
DOCUMENT = HERE / "models" / "shout.yaml"


@pytest.fixture(scope="module")
def shout(stack: Any, wait_until: Callable[..., Any]) -> str:
    done = stack.run("models", "apply", "-f", str(DOCUMENT))
    assert done.stdout == "admin/shout created\n", done.stderr
    wait_until(lambda: re.search(r"shout +yes +1/1", stack.run("models", "list").stdout))
    return "admin/shout"


def _last_id(stack: Any) -> str:
    return str(stack.run("predictions", "-n", "1").stdout.splitlines()[1].split()[0])


def test_help_is_quick() -> None:
    before = os.times()
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    after = os.times()
    used = after.children_user - before.children_user
    used += after.children_system - before.children_system
    assert used < 0.5
    for command in ("up", "down", "status", "login", "models", "predict", "predictions", "logs"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


def test_apply_says_what_changed(stack: Any, shout: str, tmp_path: Path) -> None:
    again = stack.run("models", "apply", "-f", str(DOCUMENT))
    assert again.stdout == f"{shout} unchanged\n"
    text = DOCUMENT.read_text().replace("path: .", f"path: {DOCUMENT.parent}")
    other = text.replace("spec:\n", "spec:\n  description: louder\n")
    changed = stack.run("models", "apply", "-f", "-", input=other)
    assert changed.stdout == f"{shout} configured\n"
    stack.run("models", "apply", "-f", str(DOCUMENT))


def test_apply_names_the_field_that_is_wrong(stack: Any) -> None:
    wrong = DOCUMENT.read_text().replace("minReplicas: 1", "minReplicas: -1")
    done = stack.run("models", "apply", "-f", "-", input=wrong)
    assert done.returncode == 1
    assert done.stderr.startswith("inference: ")
    assert "spec.minReplicas" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  x: " + "[" * 40_000, "spec.x is nested more than 100 deep"),
        ("  x: &a [*a]", "spec.x has *a, which is not complete there"),
        ("  type: custom\n  type: custom", "spec.type is there twice"),
        ("  description: 2026-01-31", "spec.description holds a date"),
        ("  x: .nan", "spec.x holds nan"),
        ('  x: "\\0"', "spec.x holds the character U+0000"),
        ("  x: [", "not YAML"),
        ("  x: " + "y" * 1_000_000, "more than 1000000 bytes"),
    ],
    ids=["deep", "endless", "twice", "a date", "no number", "NUL", "broken", "large"],
)
def test_apply_of_what_is_no_document_is_one_line(stack: Any, line: str, message: str) -> None:
    document = f"metadata: {{name: odd}}\nspec:\n{line}\n"
    done = stack.run("models", "apply", "-f", "-", input=document)
    assert done.returncode == 1
    assert done.stderr.startswith("inference: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_inputs_that_json_cannot_hold_are_one_line(stack: Any, shout: str) -> None:
    for given, message in (
        ("text=\udcff", "half of a surrogate pair"),
        ("times=" + "[" * 9999, ""),
    ):
        done = stack.run("predict", shout, "-i", "text=x", "-i", given)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_predict_prints_the_output(stack: Any, shout: str) -> None:
    done = stack.run("predict", shout, "-i", "text=hey ", "-i", "times=2")
    assert done.stdout == "HEY HEY \n", done.stderr


def test_the_owner_may_be_left_out(stack: Any, shout: str) -> None:
    assert stack.run("predict", "shout", "-i", "text=1").stdout == "1\n"


def test_predict_streams(stack: Any, shout: str) -> None:
    done = stack.run("predict", shout, "-i", "text=hey", "--stream")
    assert done.stdout == "HEY\n", done.stderr


def test_predict_as_json(stack: Any, shout: str) -> None:
    whole = json.loads(stack.run("predict", shout, "-i", "text=hey", "--json").stdout)
    assert (whole["status"], whole["output"]) == ("succeeded", "HEY")
    lines = stack.run("predict", shout, "-i", "text=hey", "--json", "--stream").stdout.splitlines()
    *events, last = map(json.loads, lines)
    assert events[-1] == {"event": "done", "data": "{}"}
    assert last["output"] == "HEY"


def test_a_failed_prediction_is_an_error(stack: Any, shout: str) -> None:
    done = stack.run("predict", shout, "-i", "text=fail")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "prediction failed (model_error): ValueError: no voice today" in done.stderr


def test_a_wrong_input_is_named(stack: Any, shout: str) -> None:
    done = stack.run("predict", shout, "-i", "text=hey", "-i", "times=often")
    assert done.returncode == 1
    assert "input.times" in done.stderr


def test_wrong_usage_has_its_own_exit_code(stack: Any, shout: str) -> None:
    done = stack.run("predict", shout, "-i", "novalue")
    assert done.returncode == 2
    assert "'novalue' is not key=value" in done.stderr


def test_ctrl_c_cancels(stack: Any, shout: str) -> None:
    argv = [COMMAND, "predict", shout, "-i", "text=sleep", "--stream"]
    # A background job of a shell ignores Ctrl-C, and so would what it starts.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        argv, env=stack.env, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline().strip() in ("queued", "running")
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=20)[1].endswith("canceled\n")
        assert running.returncode == 130
    with closing(psycopg2.connect(stack.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT cancel_requested_at FROM predictions ORDER BY id DESC LIMIT 1")
        assert cursor.fetchone() != (None,)


def test_predictions_are_listed_and_shown(stack: Any, shout: str) -> None:
    stack.run("predict", shout, "-i", "text=listed")
    listed = stack.run("predictions", "--model", shout, "--status", "succeeded", "-n", "1").stdout
    header, line = listed.splitlines()
    assert header.split() == ["ID", "MODEL", "STATUS", "CREATED", "SECONDS"]
    shown = json.loads(stack.run("predictions", "get", line.split()[0]).stdout)
    assert shown["output"] == "LISTED"
    done = stack.run("predictions", "cancel", shown["id"])
    assert done.stdout == f"{shown['id']} succeeded\n"


def test_status_shows_processes_and_models(stack: Any, shout: str) -> None:
    text = stack.run("status").stdout
    for name, pid in stack.pids().items():
        assert name == "runner" or re.search(rf"^{name} +{pid} ", text, re.MULTILINE), name
    assert re.search(rf"^{shout} +yes +1/1 +\d+ +Ready$", text, re.MULTILINE)
    for url in re.findall(r"http://\S+/metrics", text):
        assert httpx.get(url).is_success, url


def test_status_counts_the_memory_of_the_process_that_has_the_model(stack: Any, shout: str) -> None:
    name = f"runner {shout} 0"
    pid = stack.pids()[name]
    (child,) = psutil.Process(pid).children()
    line = re.search(rf"^{name} .* (\d+) MiB", stack.run("status").stdout, re.MULTILINE)
    assert line is not None
    assert int(line[1]) >= child.memory_full_info().uss // 2**20


def test_logs_of_a_process_and_of_a_model(stack: Any, shout: str) -> None:
    stack.run("predict", shout, "-i", "text=logged")
    prediction = _last_id(stack)
    assert prediction in stack.run("logs", shout).stdout
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} ", stack.run("logs", "gateway", "-n", "1").stdout)
    missing = stack.run("logs", "nobody")
    assert missing.returncode == 1
    assert "gateway" in missing.stderr


def test_login_with_a_password_and_logout(stack: Any, shout: str) -> None:
    account = {"username": "ann", "email": "ann@example.com", "password": "correct horse"}
    httpx.post(f"{stack.url}/v1/auth/register", json=account).raise_for_status()
    try:
        done = stack.run("login", "--username", "ann", input="correct horse\n")
        assert f"logged in at {stack.url} as ann" in done.stdout, done.stderr
        assert (stack.home / "client.json").stat().st_mode & 0o777 == 0o600
        assert stack.run("models", "delete", shout).returncode == 1
    finally:
        stack.run("logout")
    assert stack.run("predict", shout, "-i", "text=back").stdout == "BACK\n"


def test_a_wrong_token_is_one_clear_line(stack: Any) -> None:
    stack_with_token = type(stack)(stack.home, INFERENCE_TOKEN="inf_wrong")
    done = stack_with_token.run("predictions")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_without_a_server_one_line_says_what_to_do(stack: Any, tmp_path: Path) -> None:
    nowhere = type(stack)(tmp_path / "nowhere")
    assert nowhere.run("models", "list").stderr == (
        f"inference: no server here yet: start it with `{PROGRAM} up`, or `{PROGRAM} login URL`\n"
    )
    assert nowhere.run("down").stdout == "not running\n"
    assert f"start it with `{PROGRAM} up`" in nowhere.run("status").stderr
    assert not nowhere.home.exists()


def test_a_deleted_model_is_gone(stack: Any) -> None:
    text = DOCUMENT.read_text().replace("name: shout", "name: passing")
    stack.run("models", "apply", "-f", "-", input=text.replace("minReplicas: 1", ""))
    assert stack.run("models", "delete", "passing").stdout == "admin/passing deleted\n"
    assert "passing" not in stack.run("models", "list").stdout
