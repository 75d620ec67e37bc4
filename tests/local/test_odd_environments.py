"""The world that `inference` is started in may be odd: the server and the commands are not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from inference_local.supervisor import IDLE

COMMAND = str(Path(sys.executable).parent / "inference")
DOCUMENT = Path(__file__).parent / "models" / "shout.yaml"
SNOWMAN = "\N{SNOWMAN}"


def _shell(before: str) -> list[str]:
    return ["bash", "-c", f'{before}; exec "$0" "$@"', COMMAND]


# What is odd: variables that are set (None: unset), and what is in front of the command.
ODD: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "a locale that is not there": ({"LANG": "en_US.UTF-8", "LC_ALL": "xx_XX.UTF-8"}, [COMMAND]),
    "ASCII only": ({"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, [COMMAND]),
    "Python's own variables": (
        {
            "PYTHONWARNINGS": "error",
            "PYTHONOPTIMIZE": "2",
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTHONSTARTUP": "/nowhere.py",
            "PYTHONIOENCODING": "ascii",
            "PYTHONSAFEPATH": "1",
        },
        [COMMAND],
    ),
    "no home, no user, no terminal": (
        {"HOME": None, "USER": None, "TERM": "dumb", "COLUMNS": "0", "TZ": "Nowhere/City"},
        [COMMAND],
    ),
    "signals ignored": ({}, _shell("trap '' INT TERM HUP CHLD ALRM PIPE")),
    "signals blocked": (
        {},
        [
            sys.executable,
            "-c",
            "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); "
            "os.execv(sys.argv[1], sys.argv[1:])",
            COMMAND,
        ],
    ),
    "streams closed": ({}, _shell("exec <&- >&- 2>&-")),
    "no output to write to": ({}, _shell("exec >/dev/full 2>/dev/null")),
    "a working folder that is gone": ({}, _shell('d=$(mktemp -d); cd "$d"; rmdir "$d"')),
    "files for nobody": ({}, _shell("umask 0777")),
    "few open files": ({}, _shell("ulimit -Sn 128")),
    "a relative home": ({"INFERENCE_HOME": "{relative}"}, [COMMAND]),
}


@pytest.mark.parametrize("oddity", ODD)
def test_the_server_starts_serves_and_stops(
    oddity: str, new_home: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stack = new_home()
    variables, argv = ODD[oddity]
    relative = os.path.relpath(stack.home)
    env = dict(stack.env)
    for name, value in variables.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value.format(relative=relative)

    def inference(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    up = inference("up", "--port", "0")
    assert "Traceback" not in up.stderr
    stack.wait_ready()
    applied = inference("models", "apply", "-f", str(DOCUMENT))
    assert "Traceback" not in applied.stderr
    wait_until(lambda: "yes" in stack.run("models", "list").stdout)
    predicted = stack.run("predict", "admin/shout", "-i", f"text=hey {SNOWMAN}")
    assert predicted.stdout == f"HEY {SNOWMAN}\n", predicted.stderr
    down = inference("down")
    assert "Traceback" not in down.stderr
    assert "not running" in stack.run("status").stderr


@pytest.fixture(scope="module")
def shout(stack: Any, wait_until: Callable[..., Any]) -> Iterator[str]:
    stack.run("models", "apply", "-f", str(DOCUMENT))
    wait_until(lambda: "yes" in stack.run("models", "list").stdout)
    yield "admin/shout"
    stack.run("models", "delete", "shout")
    wait_until(lambda: "shout" not in stack.run("models", "list").stdout)


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--stream",), ("--stream", "--json")])
def test_a_terminal_that_knows_ascii_only_shows_the_rest_escaped(
    arguments: tuple[str, ...], stack: Any, shout: str
) -> None:
    env = {**stack.env, "PYTHONIOENCODING": "ascii"}
    argv = [COMMAND, "predict", shout, "-i", f"text={SNOWMAN}", *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\u2603" in done.stdout
    if "--json" in arguments:
        last = json.loads(done.stdout.splitlines()[-1] if "--stream" in arguments else done.stdout)
        assert last["output"] == SNOWMAN


@pytest.mark.parametrize(
    "arguments", [("logs", "-n", "10000"), ("models", "list"), ("--help",), ("status",)]
)
def test_a_closed_pipe_is_no_error_to_speak_of(
    arguments: tuple[str, ...], stack: Any, shout: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [COMMAND, *arguments]
    done = subprocess.run(
        argv, env=stack.env, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert done.stderr == b""


def test_output_that_cannot_be_written_is_one_line(stack: Any, shout: str) -> None:
    with Path("/dev/full").open("w") as full:
        argv = [COMMAND, "models", "list"]
        done = subprocess.run(
            argv, env=stack.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "inference: standard output: No space left on device\n"


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("arguments", [(), ("--stream",)])
def test_no_character_ends_a_line_that_is_none(
    character: str, arguments: tuple[str, ...], stack: Any, shout: str
) -> None:
    text = f"a{character}b"
    done = stack.run("predict", shout, "-i", f"text={text}", *arguments)
    assert done.stdout == text.upper() + "\n", done.stderr


def test_logs_keep_a_line_whole(stack: Any, shout: str) -> None:
    log = stack.home / "logs" / "odd.log"
    log.write_text('{"event": "before\u2028after \u0085 end"}\n', encoding="utf-8")
    try:
        assert "before\u2028after \u0085 end" in stack.run("logs", "odd").stdout
    finally:
        log.unlink()


def test_a_stopped_supervisor_goes_on(
    new_stack: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stack = new_stack()
    before = stack.pids()
    os.kill(before["supervisor"], signal.SIGSTOP)
    time.sleep(IDLE + 0.5)  # What it waits for comes to its end while it cannot notice.
    os.kill(before["supervisor"], signal.SIGCONT)
    stack.kill("dispatch")  # What it does next: it is awake, and starts it again.
    wait_until(lambda: stack.pids().get("dispatch", before["dispatch"]) != before["dispatch"])
    after = stack.pids()
    assert {n: after[n] for n in before if n != "dispatch"} == {
        n: before[n] for n in before if n != "dispatch"
    }


def test_of_two_that_start_at_once_the_second_waits(
    new_home: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stack = new_home()
    argv = [COMMAND, "up", "--port", "0"]
    both = [
        subprocess.Popen(
            argv, env=stack.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    words = sorted("already up" in out for out, _ in said)
    assert words == [False, True], said
    assert stack.run("predictions").stdout == "no predictions\n"


def test_ctrl_c_cancels_from_the_first_moment_on(
    new_stack: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stack = new_stack()
    # A model without a runner: nothing can end but by the cancel.
    text = DOCUMENT.read_text().replace("path: .", f"path: {DOCUMENT.parent}/nowhere")
    stack.run("models", "apply", "-f", "-", input=text)

    def statuses() -> list[str]:
        with closing(psycopg2.connect(stack.database_url)) as server, server.cursor() as cursor:
            cursor.execute("SELECT status FROM predictions")
            return [row[0] for row in cursor]

    argv = [COMMAND, "predict", "admin/shout", "-i", "text=x"]
    with subprocess.Popen(argv, env=stack.env, stderr=subprocess.DEVNULL) as process:
        wait_until(statuses, every=0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    wait_until(lambda: statuses() == ["canceled"])


def test_what_is_printed_can_be_typed(new_home: Callable[..., Any]) -> None:
    stack = new_home()
    path = "/usr/bin:/bin"
    argv = [COMMAND, "up", "--port", "0"]
    done = subprocess.run(
        argv, env={**stack.env, "PATH": path}, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("  stop"))
    stopped = subprocess.run(
        ["bash", "-c", line.removeprefix("  stop").strip()],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.stdout == "stopped\n", stopped.stderr


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_style_gets_none(variables: dict[str, str], stack: Any) -> None:
    ours, theirs = pty.openpty()
    env = {**stack.env, "TERM": "xterm", **variables}
    subprocess.run([COMMAND, "up"], env=env, stdout=theirs, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: all was read.
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert b"already up" in shown
    assert b"\x1b[1m" not in shown
