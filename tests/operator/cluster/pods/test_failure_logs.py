"""The words of runners that failed, whichever run has them by the time somebody asks."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from inference_contract.inferencemodel import Reason
from inference_operator.cluster.api.client import log_lines
from inference_operator.cluster.pods.diagnosis import PodProblem
from inference_operator.cluster.pods.failure_logs import AGAIN, FailureLogs
from inference_operator.cluster.pods.runner_pod import End, RunnerPod

KEY = ("team-a", "m")
WORDS = ["loading", "no such file"]
POD = RunnerPod("p", "uid", "h", end=End(3, "Error", is_last=True))
LATER = replace(POD, restarts=1, end=End(3, "Error", is_last=False))


class Kubelet:
    """What it has of a container's runs, by whether it is the one before; None: nothing."""

    def __init__(self, now: list[str] | None = None, before: list[str] | None = None) -> None:
        self.logs = {False: now, True: before}
        self.asked = 0
        self.runner_logs = FailureLogs(self.read)

    def read(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[str] | None:
        assert (namespace, pod, container) == ("team-a", "p", "runner")
        self.asked += 1
        return self.logs[previous]

    def explain(self, pod: RunnerPod = POD) -> PodProblem:
        return self.runner_logs.explain(KEY, PodProblem(Reason.LOAD_FAILED, "did not load", pod))


@pytest.mark.parametrize(
    ("pod", "kubelet"),
    [
        pytest.param(POD, Kubelet(now=WORDS), id="its run is the current one"),
        pytest.param(POD, Kubelet(now=[], before=WORDS), id="the next has just begun"),
        pytest.param(POD, Kubelet(now=None, before=WORDS), id="the next is being made"),
        pytest.param(LATER, Kubelet(now=["loading"], before=WORDS), id="the next one runs"),
    ],
)
def test_the_words_of_the_run_that_ended(pod: RunnerPod, kubelet: Kubelet) -> None:
    said = kubelet.explain(pod)
    assert (said.message, said.log_tail) == ("no such file; did not load", WORDS)
    assert kubelet.runner_logs.again(KEY) == inf


def test_they_are_read_once() -> None:
    kubelet = Kubelet(now=WORDS)
    kubelet.explain()
    kubelet.explain()
    assert kubelet.asked == 1
    kubelet.logs[True] = ["another reason"]
    assert kubelet.explain(LATER).message.startswith("another reason; ")


def test_those_of_two_versions_that_take_turns_are_read_once_each() -> None:
    kubelet = Kubelet(now=WORDS)
    for uid in ("old", "new", "old", "new"):
        assert kubelet.explain(replace(POD, uid=uid)).log_tail == WORDS
    assert kubelet.asked == 2


def test_those_of_the_version_before_the_last_two_are_forgotten() -> None:
    kubelet = Kubelet(now=WORDS)
    for uid in ("oldest", "old", "new", "oldest"):
        kubelet.explain(replace(POD, uid=uid))
    assert kubelet.asked == 4


def test_a_log_that_is_not_there_is_asked_for_again() -> None:
    kubelet = Kubelet()
    said = kubelet.explain(LATER)
    assert (said.message, said.log_tail) == ("did not load", ())
    assert kubelet.runner_logs.again(KEY) == AGAIN
    assert kubelet.runner_logs.again(KEY) == inf  # Until another look misses it.
    kubelet.logs[True] = WORDS
    assert kubelet.explain(LATER).log_tail == WORDS
    assert kubelet.runner_logs.again(KEY) == inf


def test_a_run_that_said_nothing_is_not_asked_again() -> None:
    kubelet = Kubelet(now=[])
    assert not kubelet.explain().log_tail
    assert kubelet.runner_logs.again(KEY) == inf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("2026-01-02T03:04:05.000000001Z loading\n2026-01-02T03:04:06Z \n", ["loading", ""]),
        ("2026-01-02T03:04:05+01:00 50 %\r100 %\n2026-01", ["50 %\r100 %"]),
        ("unable to retrieve container logs for containerd://6a41", None),
    ],
)
def test_what_a_container_wrote(text: str, expected: list[str] | None) -> None:
    assert log_lines(text) == expected


def test_what_needs_no_log_is_told_without() -> None:
    kubelet = Kubelet(now=WORDS)
    problem = PodProblem(Reason.UNSCHEDULABLE, "no node", POD)
    assert kubelet.runner_logs.explain(KEY, problem) is problem
    assert kubelet.asked == 0
