"""What a runner's end means for the next start."""

from __future__ import annotations

import pytest

from inference_contract.inferencemodel import Reason
from inference_contract.pods import RunnerPhase
from inference_operator.exit_codes import in_words
from inference_operator.local.failures import Failure, Failures, after_exit
from inference_operator.local.runners import Exit, Runner
from inference_operator.plan import RunnerPlan

NOW = 1000.0
CRASH, LOAD = Reason.CRASH_LOOP_BACK_OFF, Reason.LOAD_FAILED


def _exit(
    code: int | None = 1,
    phase: RunnerPhase = RunnerPhase.READY,
    ready_for: float | None = None,
    stop_by: float | None = None,
    message: str = "",
) -> Exit:
    ready_since = None if ready_for is None else NOW - ready_for
    runner = Runner("alice/m", 0, "r", "h", NOW - 100, 30, phase, ready_since, stop_by)
    return Exit(runner, code, message, ("last line",))


def _before(count: int, hash: str = "h") -> Failure:
    return Failure(hash, CRASH, "", count, NOW - 10)


@pytest.mark.parametrize(
    ("previous", "ended", "expected"),
    [
        pytest.param(None, _exit(), (CRASH, 1), id="a first crash"),
        pytest.param(_before(2), _exit(), (CRASH, 3), id="a crash again"),
        pytest.param(_before(2), _exit(ready_for=59), (CRASH, 3), id="healthy, but not for long"),
        pytest.param(_before(2), _exit(ready_for=60), (CRASH, 1), id="healthy for long"),
        pytest.param(_before(2, "old"), _exit(), (CRASH, 1), id="a changed model"),
        pytest.param(None, _exit(0), (CRASH, 1), id="nobody told it to stop"),
        pytest.param(None, _exit(3), (LOAD, 1), id="load failed"),
        pytest.param(None, _exit(5), (LOAD, 1), id="misconfigured"),
        pytest.param(None, _exit(None), (CRASH, 1), id="adopted, died"),
        pytest.param(
            None, _exit(None, RunnerPhase.FAILED), (LOAD, 1), id="adopted, said that it failed"
        ),
        pytest.param(_before(2), _exit(0, ready_for=5, stop_by=NOW), None, id="drained"),
        pytest.param(_before(2), _exit(-9, stop_by=NOW), (CRASH, 2), id="stopped while loading"),
    ],
)
def test_after_exit(
    previous: Failure | None, ended: Exit, expected: tuple[Reason, int] | None
) -> None:
    failure = after_exit(previous, ended, NOW)
    assert (failure and (failure.reason, failure.count)) == expected


def test_a_failed_load_speaks_for_itself() -> None:
    failure = after_exit(None, _exit(3, message="no such file"), NOW)
    assert failure
    assert (failure.message, failure.log_tail) == ("no such file", ("last line",))


@pytest.mark.parametrize(
    ("count", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (9999, 300)]
)
def test_the_backoff_doubles_up_to_five_minutes(count: int, seconds: float) -> None:
    assert Failure("h", CRASH, "", count, NOW).next_start == NOW + seconds


def test_deaths_of_what_was_run_do_not_delay_the_next_start_when_that_fails() -> None:
    died = Failure("h", CRASH, "", 8, NOW - 10, was_ready=True)
    failure = after_exit(died, _exit(None), NOW)
    assert failure
    assert failure.count == 1


@pytest.mark.parametrize(("ready_for", "seconds"), [(None, 300), (5, 5)])
def test_who_was_ready_is_back_within_seconds_however_often_it_dies(
    ready_for: float | None, seconds: float
) -> None:
    failure = after_exit(_before(20), _exit(1, ready_for=ready_for), NOW)
    assert failure
    assert failure.next_start == NOW + seconds


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "the runner was killed by SIGKILL"),
        (-35, "the runner was killed by signal 35"),
        (7, "the runner ended with exit code 7"),
        (None, "the runner died"),
    ],
)
def test_exit_codes_in_words(code: int | None, words: str) -> None:
    assert in_words(code) == words


@pytest.mark.parametrize(
    ("plan_hash", "replicas", "ready_for", "is_kept"),
    [
        ("h", 1, 59.0, True),
        ("h", 1, 60.0, False),
        ("h", 2, 60.0, True),
        ("h", 0, 60.0, True),
        ("other", 1, 0.0, False),
        (None, 0, 0.0, True),
    ],
)
def test_what_is_forgiven(
    plan_hash: str | None, replicas: int, ready_for: float, is_kept: bool
) -> None:
    failures = Failures()
    failures.note(_exit(), NOW - 100)
    plan = plan_hash and RunnerPlan("alice/m", replicas, plan_hash, {}, {}, 100, 30)
    failures.prune({"alice/m": plan or None}, [_exit(ready_for=ready_for).runner], NOW)
    assert bool(failures) is is_kept


def test_the_failures_of_a_deleted_model_are_forgotten() -> None:
    failures = Failures()
    failures.note(_exit(), NOW)
    failures.prune({}, [], NOW)
    assert not failures


def test_all_that_is_known_of_a_failure() -> None:
    ended = _exit(3, ready_for=1, message="no such file")
    assert after_exit(None, ended, NOW) == Failure(
        "h", LOAD, "no such file", 1, NOW, ("last line",), was_ready=True
    )
    assert after_exit(_before(1), _exit(7, message="words"), NOW) == Failure(
        "h", CRASH, "the runner ended with exit code 7", 2, NOW, ("last line",)
    )


def test_what_a_drained_runner_leaves_if_it_never_was_ready() -> None:
    before = _before(2)
    assert after_exit(before, _exit(0, stop_by=NOW), NOW) is before
    failed = after_exit(before, _exit(0, RunnerPhase.FAILED, stop_by=NOW), NOW)
    assert failed
    assert failed.count == 3


def test_deaths_in_a_row_of_what_was_ready_are_counted() -> None:
    died = Failure("h", CRASH, "", 2, NOW - 10, was_ready=True)
    failure = after_exit(died, _exit(ready_for=5), NOW)
    assert failure
    assert failure.count == 3


def test_failures_are_remembered_by_slot_until_a_runner_ends_well() -> None:
    failures = Failures()
    first = failures.note(_exit(), NOW)
    assert first is not None
    assert dict(failures) == {("alice/m", 0): first}
    second = failures.note(_exit(), NOW)
    assert second is not None
    assert second.count == 2
    assert failures[("alice/m", 0)] is second
    assert list(failures.of("alice/m")) == [second]
    assert list(failures.of("alice/n")) == []
    assert failures.note(_exit(stop_by=NOW), NOW) is None  # It ends nothing, and is no news.
    assert list(failures.of("alice/m")) == [second]
    assert failures.note(_exit(0, ready_for=5, stop_by=NOW), NOW) is None
    assert len(failures) == 0


def test_each_model_is_forgiven_for_itself() -> None:
    failures = Failures()
    failures.note(_exit(), NOW)
    of_another = Runner("alice/n", 0, "s", "h", NOW - 100, 30, RunnerPhase.READY, NOW - 60)
    plan = RunnerPlan("alice/m", 1, "h", {}, {}, 100, 30)
    failures.prune({"alice/m": plan}, [of_another], NOW)
    assert len(failures) == 1
