"""How far downloads are, by what their pods log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from math import inf

import pytest

from inference_operator.cluster.pods.downloads import PERIOD, Downloads, last, message
from inference_operator.cluster.pods.runner_pod import DownloadProgress, RunnerPod

KEY = ("team-a", "m")
FETCHING = RunnerPod("p", "uid", "h", container="fetch", running_since="2026-01-02T03:04:00Z")
READY = RunnerPod("q", "uid-q", "h", is_ready=True)


def _line(percent: int, total: int = 1000) -> str:
    return json.dumps({"event": "downloading", "percent": percent, "total_bytes": total})


class Logs:
    """What pods have said, and how often somebody asked."""

    def __init__(self) -> None:
        self.lines = [_line(0)]
        self.asked: list[tuple[str, str, str]] = []
        self.now = 100.0
        self.downloads = Downloads(self.read, lambda: self.now)

    def read(self, namespace: str, pod: str, container: str) -> list[str]:
        self.asked.append((namespace, pod, container))
        return self.lines

    def progress(self, *pods: RunnerPod) -> list[int | None]:
        found = self.downloads.with_progress(KEY, pods)
        return [pod.progress.percent if pod.progress else None for pod in found]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["Traceback", "[1]", "{}"], None),
        ([_line(3, 10), _line(43, 10)], DownloadProgress(43, 10)),
        ([_line(43, 10), '{"event": "resumed"}', "noise"], DownloadProgress(43, 10)),
        (['{"event": "downloading"}'], None),
    ],
)
def test_the_last_line_that_says_it(lines: list[str], expected: DownloadProgress | None) -> None:
    assert last(lines) == expected


def test_a_log_is_read_now_and_then() -> None:
    logs = Logs()
    assert logs.progress(FETCHING) == [0]
    logs.lines = [_line(50)]
    logs.now += PERIOD / 2
    assert logs.progress(FETCHING) == [0]
    logs.now += PERIOD / 2
    assert logs.progress(FETCHING) == [50]
    assert logs.asked == [("team-a", "p", "fetch")] * 2


def test_only_downloads_are_asked_for_another_look() -> None:
    logs = Logs()
    assert logs.progress(
        READY, replace(FETCHING, terminating_until=datetime(2026, 1, 2, tzinfo=UTC))
    ) == [None, None]
    assert logs.downloads.again(KEY) == inf
    assert logs.progress(READY, FETCHING) == [None, 0]
    assert logs.downloads.again(KEY) == PERIOD
    logs.progress(READY)
    assert logs.downloads.again(KEY) == inf
    assert logs.asked == [("team-a", "p", "fetch")]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([None], "downloading a/b"),
        ([DownloadProgress(0, 0)], "downloading a/b: 0 % of 0.0 kB"),
        ([DownloadProgress(12, 340_500), None], "downloading a/b: 12 % of 340.5 kB"),
        ([DownloadProgress(12, 40_000_000)], "downloading a/b: 12 % of 40.0 MB"),
        (
            [DownloadProgress(12, 16_060_000_000), DownloadProgress(43, 16_060_000_000)],
            "downloading a/b: 43 % of 16.1 GB",
        ),
    ],
)
def test_words(said: list[DownloadProgress | None], expected: str) -> None:
    assert message("a/b", [replace(FETCHING, progress=progress) for progress in said]) == expected
