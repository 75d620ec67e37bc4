"""The local half with real processes and the real Redis."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference_contract import layout, queues
from inference_contract.inferencemodel import ConditionStatus, ConditionType, Reason
from inference_operator.local import runner_files


def _environ(pid: int) -> dict[str, str]:
    return dict(psutil.Process(pid).environ())


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_document_becomes_a_ready_runner(machine: Any) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    assert machine.ready() == ("Ready", "1 of 1 replicas ready")
    assert (machine.status().replicas, machine.status().ready_replicas) == (1, 1)


def test_a_runner_gets_its_plan_and_no_secret(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "s" * 40)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    (launch,) = machine.launches().values()
    environ = _environ(launch["pid"])
    assert environ["INFERENCE_MODEL_ID"] == "alice/m"
    assert environ["RUNNER_NAME"] == launch["name"]
    assert queues.parse_worker_name(launch["name"])[0] == "alice_m"
    assert json.loads(environ["INFERENCE_MODEL_SPEC"])["minReplicas"] == 1
    assert not {"SECRET_KEY", "DATABASE_URL"} & environ.keys()
    assert os.getsid(launch["pid"]) == launch["pid"]
    assert Path(f"/proc/{launch['pid']}/cwd").readlink() == machine.home / "run/runners/alice_m-0"


def test_a_killed_runner_is_noticed_at_once_and_replaced(machine: Any) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    (before,) = machine.pids()
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    machine.operators[-1].tick()
    assert machine.status().ready_replicas == 0
    assert "killed by SIGKILL" in machine.ready()[1]
    machine.until(machine.says(Reason.READY))
    assert machine.pids() != [before]


def test_a_failed_load_tells_why_with_the_last_lines(machine: Any) -> None:
    machine.apply("fail", minReplicas=1)
    machine.until(machine.says(Reason.LOAD_FAILED))
    assert machine.ready()[1].startswith("the weights are made of cheese; next start in ")
    assert machine.status().log_tail == ["loading alice/m", "Traceback: cheese"]


def test_a_crash_loop_is_told_after_the_second_crash(machine: Any) -> None:
    machine.apply("crash", minReplicas=1)
    machine.until(lambda: "exit code 7" in machine.ready()[1])
    assert machine.ready()[0] == Reason.LOADING_MODEL
    machine.until(machine.says(Reason.CRASH_LOOP_BACK_OFF))
    assert machine.ready()[1].startswith("the runner ended with exit code 7; next start in ")


def test_a_corrected_document_does_not_wait_for_the_backoff(machine: Any) -> None:
    machine.apply("crash", minReplicas=1)
    machine.until(machine.says(Reason.CRASH_LOOP_BACK_OFF))
    machine.apply("ready", minReplicas=1)
    machine.operators[-1].tick()
    assert len(machine.pids()) == 1
    machine.until(machine.says(Reason.READY))


def test_a_changed_model_drains_before_its_successor_starts(machine: Any) -> None:
    machine.apply("stay", minReplicas=1)
    machine.until(machine.says(Reason.READY))
    (old,) = machine.pids()
    machine.apply("ready", minReplicas=1)
    machine.until(lambda: "waiting for 1 old runners" in machine.ready()[1])
    for _ in range(3):
        machine.operators[-1].tick()
    assert machine.pids() == [old]
    os.kill(old, signal.SIGKILL)
    machine.until(machine.says(Reason.READY))
    assert not _is_alive(old)


def test_a_change_that_runners_do_not_see_leaves_them_alone(machine: Any) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    before = machine.pids()
    machine.apply(minReplicas=2, maxReplicas=2)
    machine.until(lambda: machine.status().ready_replicas == 2)
    assert before[0] in machine.pids()


def test_who_outstays_its_grace_is_killed(machine: Any) -> None:
    file = machine.apply("stay", minReplicas=1, timeouts={"drainSeconds": 1})
    machine.until(machine.says(Reason.READY))
    file.unlink()
    machine.until(lambda: not machine.pids())


def test_a_deleted_model_leaves_nothing_but_its_log(machine: Any) -> None:
    file = machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    file.unlink()
    machine.until(lambda: not layout.status_file(machine.home, "alice", "m").exists())
    assert not list((machine.home / "run" / "runners").iterdir())
    assert [path.name for path in (machine.home / "logs" / "runners").iterdir()] == [
        "alice_m-0.log"
    ]


def test_from_zero_to_the_load_and_back(machine: Any) -> None:
    machine.apply(maxReplicas=3)
    machine.until(machine.says(Reason.SCALED_TO_ZERO))
    assert machine.ready()[1] == "starts with the first prediction, which shows whether it loads"
    machine.load(queued=15, in_flight=10)
    machine.until(lambda: machine.status().ready_replicas == 3)
    assert (machine.status().queued, machine.status().in_flight) == (15, 10)
    machine.load(0)
    machine.until(lambda: machine.status().replicas == 0)
    assert machine.ready()[0] == Reason.SCALED_TO_ZERO


def test_replicas_are_held_while_redis_is_away(machine: Any) -> None:
    machine.apply(maxReplicas=3)
    machine.load(30)
    machine.until(lambda: machine.status().ready_replicas == 3)
    machine.connection.url = "unix:///nowhere"
    machine.connection.close()
    machine.operators[-1].tick()
    scaling = machine.status().condition(ConditionType.SCALING_ACTIVE)
    assert (scaling.status, scaling.reason) == (ConditionStatus.UNKNOWN, "LoadUnknown")
    assert machine.status().ready_replicas == 3


def test_without_room_a_model_waits_and_says_so(machine: Any) -> None:
    machine.apply(name="a", minReplicas=1)
    machine.apply(name="b", minReplicas=1)
    machine.start(local_max_runners=1)
    machine.until(machine.says(Reason.READY, "a"))
    assert machine.ready("b")[0] == Reason.NO_CAPACITY
    layout.model_file(machine.home, "alice", "a").unlink()
    machine.until(machine.says(Reason.READY, "b"))


def test_an_invalid_document_names_the_field(machine: Any) -> None:
    machine.apply(maxReplicas=-1)
    machine.until(machine.says(Reason.INVALID_MODEL))
    assert "spec.maxReplicas" in machine.ready()[1]
    assert not machine.pids()


def test_a_typo_does_not_stop_what_runs(machine: Any) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    before = machine.pids()
    machine.write("spec: [")
    machine.until(machine.says(Reason.INVALID_MODEL))
    machine.start()
    for _ in range(2):
        machine.operators[-1].tick()
    assert machine.pids() == before


def test_a_runner_that_never_loads_is_killed(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_operator.local.actions.LOAD_GRACE", -0.5)
    machine.apply("load", minReplicas=1, timeouts={"loadSeconds": 1})
    machine.until(machine.says(Reason.LOAD_FAILED))
    assert machine.ready()[1].startswith("did not load within 1 s")


def test_a_successor_adopts_by_name_when_the_record_has_no_pid(machine: Any) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    (pid,) = machine.pids()
    record = machine.home / "run/runners/alice_m-0.launch"
    content = json.loads(record.read_text()) | {"pid": None, "identity": None}
    record.write_text(json.dumps(content))
    machine.start()
    machine.until(machine.says(Reason.READY))
    assert machine.pids() == [pid]


def test_another_process_with_the_pid_is_not_adopted(machine: Any) -> None:
    machine.apply(minReplicas=1)
    files = runner_files.RunnerFiles(machine.home, "alice/m", 0)
    offset = files.prepare()
    stranger = os.getpid()
    files.record(
        runner_files.Launch("alice/m", 0, "alice_m-0-x", "h", 5, offset, stranger, "boot:1")
    )
    machine.until(machine.says(Reason.READY))
    assert machine.pids() != [stranger]


def test_a_full_disk_is_told_in_the_log_and_passes(
    machine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    machine.apply(minReplicas=1)
    with monkeypatch.context() as patched:
        patched.setattr("inference_contract.statefile.write", full)
        machine.start().tick()
    assert "No space left on device" in caplog.text
    machine.until(machine.says(Reason.READY))


def test_a_long_log_starts_anew(machine: Any) -> None:
    log = machine.home / "logs/runners/alice_m-0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (runner_files.MAX_LOG_BYTES + 1))
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    assert log.read_text() == "loading alice/m\n"
    assert log.with_suffix(".log.1").stat().st_size == runner_files.MAX_LOG_BYTES + 1


def test_a_log_is_put_aside_while_its_runner_lives_and_its_last_lines_are_told(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apply(minReplicas=1)
    machine.until(machine.says(Reason.READY))
    log = machine.home / "logs/runners/alice_m-0.log"
    monkeypatch.setattr(runner_files, "MAX_LOG_BYTES", 1000)
    with log.open("ab", buffering=0) as file:  # as the runner has it open
        file.write(b"x" * 1000 + b"\n")
        machine.until(lambda: log.stat().st_size == 0)
        file.write(b"the last words\n")
    (files,) = (found for _, found in runner_files.recorded(machine.home))
    assert files.tail(1000)[-2:] == ["x" * 1000, "the last words"]
