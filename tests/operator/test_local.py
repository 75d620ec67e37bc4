"""The local half with real processes and the real Redis."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from inference_contract import layout, queues
from inference_contract.inferencemodel import ConditionStatus, ConditionType, Reason
from inference_operator import launches


def _environ(pid: int) -> dict[str, str]:
    content = Path(f"/proc/{pid}/environ").read_text()
    return dict(entry.split("=", 1) for entry in content.split("\0") if entry)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_document_becomes_a_ready_runner(house: Any) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    assert house.ready() == ("Ready", "1 of 1 replicas ready")
    assert (house.status().replicas, house.status().ready_replicas) == (1, 1)


def test_a_runner_gets_its_plan_and_no_secret(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s" * 40)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    (launch,) = house.launches().values()
    environ = _environ(launch["pid"])
    assert environ["INFERENCE_MODEL_ID"] == "alice/m"
    assert environ["RUNNER_NAME"] == launch["name"]
    assert queues.parse_worker_name(launch["name"])[0] == "alice_m"
    assert json.loads(environ["INFERENCE_MODEL_SPEC"])["minReplicas"] == 1
    assert not {"SECRET_KEY", "DATABASE_URL"} & environ.keys()
    assert os.getsid(launch["pid"]) == launch["pid"]
    assert Path(f"/proc/{launch['pid']}/cwd").readlink() == house.home / "run/runners/alice_m-0"


def test_a_killed_runner_is_noticed_at_once_and_replaced(house: Any) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    (before,) = house.pids()
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    house.operators[-1].tick()
    assert house.status().ready_replicas == 0
    assert "killed by SIGKILL" in house.ready()[1]
    house.until(house.says(Reason.READY))
    assert house.pids() != [before]


def test_a_failed_load_tells_why_with_the_last_lines(house: Any) -> None:
    house.apply("fail", minReplicas=1)
    house.until(house.says(Reason.LOAD_FAILED))
    assert house.ready()[1].startswith("the weights are made of cheese; next start in ")
    assert house.status().log_tail == ["loading alice/m", "Traceback: cheese"]


def test_a_crash_loop_is_told_after_the_second_crash(house: Any) -> None:
    house.apply("crash", minReplicas=1)
    house.until(lambda: "exit code 7" in house.ready()[1])
    assert house.ready()[0] == Reason.LOADING_MODEL
    house.until(house.says(Reason.CRASH_LOOP_BACK_OFF))
    assert house.ready()[1].startswith("the runner ended with exit code 7; next start in ")


def test_a_corrected_document_does_not_wait_for_the_backoff(house: Any) -> None:
    house.apply("crash", minReplicas=1)
    house.until(house.says(Reason.CRASH_LOOP_BACK_OFF))
    house.apply("ready", minReplicas=1)
    house.operators[-1].tick()
    assert len(house.pids()) == 1
    house.until(house.says(Reason.READY))


def test_a_changed_model_drains_before_its_successor_starts(house: Any) -> None:
    house.apply("stay", minReplicas=1)
    house.until(house.says(Reason.READY))
    (old,) = house.pids()
    house.apply("ready", minReplicas=1)
    house.until(lambda: "waiting for 1 old runners" in house.ready()[1])
    for _ in range(3):
        house.operators[-1].tick()
    assert house.pids() == [old]
    os.kill(old, signal.SIGKILL)
    house.until(house.says(Reason.READY))
    assert not _is_alive(old)


def test_a_change_that_runners_do_not_see_leaves_them_alone(house: Any) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    before = house.pids()
    house.apply(minReplicas=2, maxReplicas=2)
    house.until(lambda: house.status().ready_replicas == 2)
    assert before[0] in house.pids()


def test_who_outstays_its_grace_is_killed(house: Any) -> None:
    file = house.apply("stay", minReplicas=1, timeouts={"drainSeconds": 1})
    house.until(house.says(Reason.READY))
    file.unlink()
    house.until(lambda: not house.pids())


def test_a_deleted_model_leaves_nothing_but_its_log(house: Any) -> None:
    file = house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    file.unlink()
    house.until(lambda: not layout.status_file(house.home, "alice", "m").exists())
    assert not list((house.home / "run" / "runners").iterdir())
    assert [path.name for path in (house.home / "logs" / "runners").iterdir()] == ["alice_m-0.log"]


def test_from_zero_to_the_load_and_back(house: Any) -> None:
    house.apply(maxReplicas=3)
    house.until(house.says(Reason.SCALED_TO_ZERO))
    assert house.ready()[1] == "starts with the first prediction, which shows whether it loads"
    house.load(queued=15, in_flight=10)
    house.until(lambda: house.status().ready_replicas == 3)
    assert (house.status().queued, house.status().in_flight) == (15, 10)
    house.load(0)
    house.until(lambda: house.status().replicas == 0)
    assert house.ready()[0] == Reason.SCALED_TO_ZERO


def test_replicas_are_held_while_redis_is_away(house: Any) -> None:
    house.apply(maxReplicas=3)
    house.load(30)
    house.until(lambda: house.status().ready_replicas == 3)
    house.operators[-1]._scaler._loads._link.url = "unix:///nowhere"
    house.operators[-1]._scaler._loads.close()
    house.operators[-1].tick()
    scaling = house.status().condition(ConditionType.SCALING_ACTIVE)
    assert (scaling.status, scaling.reason) == (ConditionStatus.UNKNOWN, "LoadUnknown")
    assert house.status().ready_replicas == 3


def test_without_room_a_model_waits_and_says_so(house: Any) -> None:
    house.apply(name="a", minReplicas=1)
    house.apply(name="b", minReplicas=1)
    house.start(local_max_runners=1)
    house.until(house.says(Reason.READY, "a"))
    assert house.ready("b")[0] == Reason.NO_CAPACITY
    layout.model_file(house.home, "alice", "a").unlink()
    house.until(house.says(Reason.READY, "b"))


def test_an_invalid_document_names_the_field(house: Any) -> None:
    house.apply(maxReplicas=-1)
    house.until(house.says(Reason.INVALID_MODEL))
    assert "spec.maxReplicas" in house.ready()[1]
    assert not house.pids()


def test_a_typo_does_not_stop_what_runs(house: Any) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    before = house.pids()
    house.write("spec: [")
    house.until(house.says(Reason.INVALID_MODEL))
    house.start()
    for _ in range(2):
        house.operators[-1].tick()
    assert house.pids() == before


def test_a_runner_that_never_loads_is_killed(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_operator.converge.LOAD_GRACE", -0.5)
    house.apply("load", minReplicas=1, timeouts={"loadSeconds": 1})
    house.until(house.says(Reason.LOAD_FAILED))
    assert house.ready()[1].startswith("did not load within 1 s")


def test_a_successor_adopts_by_name_when_the_record_has_no_pid(house: Any) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    (pid,) = house.pids()
    record = house.home / "run/runners/alice_m-0.launch"
    content = json.loads(record.read_text()) | {"pid": None, "identity": None}
    record.write_text(json.dumps(content))
    house.start()
    house.until(house.says(Reason.READY))
    assert house.pids() == [pid]


def test_another_process_with_the_pid_is_not_adopted(house: Any) -> None:
    house.apply(minReplicas=1)
    files = launches.RunnerFiles(house.home, "alice/m", 0)
    offset = files.prepare()
    stranger = os.getpid()
    files.record(launches.Launch("alice/m", 0, "alice_m-0-x", "h", 5, offset, stranger, "boot:1"))
    house.until(house.says(Reason.READY))
    assert house.pids() != [stranger]


def test_a_full_disk_is_told_in_the_log_and_passes(
    house: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    house.apply(minReplicas=1)
    with monkeypatch.context() as patched:
        patched.setattr("inference_contract.statefile.write", full)
        house.start().tick()
    assert "No space left on device" in caplog.text
    house.until(house.says(Reason.READY))


def test_a_long_log_starts_anew(house: Any) -> None:
    log = house.home / "logs/runners/alice_m-0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (launches.MAX_LOG_BYTES + 1))
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    assert log.read_text() == "loading alice/m\n"
    assert log.with_suffix(".log.1").stat().st_size == launches.MAX_LOG_BYTES + 1


def test_a_log_is_put_aside_while_its_runner_lives_and_its_last_lines_are_told(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.apply(minReplicas=1)
    house.until(house.says(Reason.READY))
    log = house.home / "logs/runners/alice_m-0.log"
    monkeypatch.setattr(launches, "MAX_LOG_BYTES", 1000)
    with log.open("ab", buffering=0) as file:  # as the runner has it open
        file.write(b"x" * 1000 + b"\n")
        house.until(lambda: log.stat().st_size == 0)
        file.write(b"the last words\n")
    (files,) = (found for _, found in launches.recorded(house.home))
    assert files.tail(1000)[-2:] == ["x" * 1000, "the last words"]
