"""A day of load against a rule that scales: events in order, no clock.

Assumed, and the same for every rule: one queue, from which the least busy ready pod takes what
waits longest; pods start in a fixed time, however many start at once; a pod that shall go takes
nothing more and ends with its last prediction, or with its grace period, and then what it still
runs is lost. A scale-down picks pods as a ReplicaSet does (kubernetes/kubernetes,
pkg/controller/controller_utils.go, ActivePodsWithRanks): those not ready first, then by
pod-deletion-cost, then the youngest. Its logarithmic rounding of ages is left out.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from scaling.traces import Prediction


@dataclass(frozen=True)
class World:
    start_seconds: float = 20
    """From the decision to a pod that takes work."""
    concurrency: int = 4
    """Predictions that a pod runs at the same time."""
    grace_seconds: float = 30
    """Kubernetes' default of terminationGracePeriodSeconds."""
    max_replicas: int = 20


class View(NamedTuple):
    """What a rule may look at."""

    replicas: int
    """Those that shall be; pods that are going do not count."""
    ready: int
    queued: int
    in_flight: int
    """Those in pods that are going included."""
    load_seconds: float
    """The load so far, without that of pods that are going, summed over time: averages are
    differences."""


class Rule(Protocol):
    @property
    def every(self) -> float:
        """Seconds between two looks."""

    @property
    def wakes(self) -> bool:
        """Whether work that finds no pod makes it look at once."""

    @property
    def spares_busy(self) -> bool:
        """Whether pods with less work go first (by pod-deletion-cost)."""

    def wanted(self, now: float, view: View) -> int: ...


@dataclass
class Outcome:
    waits: list[float] = field(default_factory=list)
    """Seconds from arrival to start, ascending; of those that started."""
    pod_seconds: float = 0
    """From the decision for a pod to its end."""
    cold_starts: int = 0
    """Times that the first pod was started."""
    retired_busy: int = 0
    """Pods that were told to go while they had work."""
    lost: int = 0
    """Predictions that ended with their pod, or never started."""

    def wait(self, quantile: float) -> float:
        """The nearest rank; NaN if nothing started."""
        if not self.waits:
            return math.nan
        return self.waits[max(0, math.ceil(quantile * len(self.waits)) - 1)]


@dataclass(eq=False)
class _Pod:
    born: float
    is_ready: bool = False
    is_going: bool = False
    running: set[int] = field(default_factory=set)
    """Numbers of its predictions."""


def simulate(trace: Sequence[Prediction], rule: Rule, world: World, seconds: float) -> Outcome:
    """What happens from 0 to `seconds`; at the end nothing is drained."""
    return _Simulation(trace, rule, world).run(seconds)


class _Simulation:
    def __init__(self, trace: Sequence[Prediction], rule: Rule, world: World) -> None:
        self._trace = trace
        self._rule = rule
        self._world = world
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = itertools.count()
        self._pods: list[_Pod] = []
        self._queue: deque[int] = deque()
        self._in_flight = 0
        self._draining = 0
        self._load_seconds = 0.0
        self._outcome = Outcome()

    def run(self, seconds: float) -> Outcome:
        self._at(0, self._tick)
        if self._trace:
            self._at(self._trace[0].arrives, self._arrive, 0)
        while self._events[0][0] < seconds:
            at, _, event, arguments = heapq.heappop(self._events)
            self._advance(at)
            event(*arguments)
        self._advance(seconds)
        outcome = self._outcome
        outcome.pod_seconds += sum(seconds - pod.born for pod in self._pods)
        outcome.lost += len(self._queue)
        outcome.waits.sort()
        return outcome

    def _at(self, at: float, event: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event, arguments))

    def _advance(self, at: float) -> None:
        load = len(self._queue) + self._in_flight - self._draining
        self._load_seconds += load * (at - self._now)
        self._now = at

    def _tick(self) -> None:
        self._look()
        self._at(self._now + self._rule.every, self._tick)

    def _look(self) -> None:
        live = self._live()
        view = View(
            replicas=len(live),
            ready=sum(pod.is_ready for pod in live),
            queued=len(self._queue),
            in_flight=self._in_flight,
            load_seconds=self._load_seconds,
        )
        self._scale(live, min(self._rule.wanted(self._now, view), self._world.max_replicas))

    def _live(self) -> list[_Pod]:
        return [pod for pod in self._pods if not pod.is_going]

    def _scale(self, live: list[_Pod], wanted: int) -> None:
        self._outcome.cold_starts += wanted > 0 and not live
        for _ in range(len(live), wanted):
            pod = _Pod(self._now)
            self._pods.append(pod)
            self._at(self._now + self._world.start_seconds, self._start, pod)
        if wanted < len(live):
            for pod in sorted(live, key=self._cost)[: len(live) - wanted]:
                self._retire(pod)

    def _cost(self, pod: _Pod) -> tuple[int, float]:
        """Pods that are not ready yet are the youngest, and idle."""
        return len(pod.running) * self._rule.spares_busy, -pod.born

    def _retire(self, pod: _Pod) -> None:
        pod.is_going = True
        if not pod.running:
            self._end(pod)
            return
        self._outcome.retired_busy += 1
        self._draining += len(pod.running)
        self._at(self._now + self._world.grace_seconds, self._kill, pod)

    def _start(self, pod: _Pod) -> None:
        pod.is_ready = True
        self._take()

    def _arrive(self, number: int) -> None:
        self._queue.append(number)
        if number + 1 < len(self._trace):
            self._at(self._trace[number + 1].arrives, self._arrive, number + 1)
        self._take()
        if self._rule.wakes and not self._live():
            self._look()

    def _take(self) -> None:
        while self._queue:
            able = [pod for pod in self._pods if pod.is_ready and not pod.is_going]
            pod = min(able, key=lambda pod: len(pod.running), default=None)
            if pod is None or len(pod.running) >= self._world.concurrency:
                return
            number = self._queue.popleft()
            prediction = self._trace[number]
            self._outcome.waits.append(self._now - prediction.arrives)
            pod.running.add(number)
            self._in_flight += 1
            self._at(self._now + prediction.runs, self._finish, pod, number)

    def _finish(self, pod: _Pod, number: int) -> None:
        if number not in pod.running:
            return  # It was lost with its pod.
        pod.running.remove(number)
        self._in_flight -= 1
        if not pod.is_going:
            self._take()
            return
        self._draining -= 1
        if not pod.running:
            self._end(pod)

    def _kill(self, pod: _Pod) -> None:
        if not pod.running:
            return
        self._outcome.lost += len(pod.running)
        self._in_flight -= len(pod.running)
        self._draining -= len(pod.running)
        pod.running.clear()
        self._end(pod)

    def _end(self, pod: _Pod) -> None:
        self._pods.remove(pod)
        self._outcome.pod_seconds += self._now - pod.born
