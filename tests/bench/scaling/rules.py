"""Rules that scale: ours, KEDA's and Knative's, each with its own defaults.

All are given the same target: as many predictions a replica as it runs at the same time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from inference_contract.inferencemodel import InferenceModelSpec
from inference_operator.scaling.decide import Gap, Sample, decide, remember
from scaling.simulate import View, World


class Ours:
    """`inference_operator.scaling.decide`: queued and in flight, read once a second.

    Args:
        spares_busy: whether idle pods go first, by controller.kubernetes.io/pod-deletion-cost.
    """

    every = 1.0
    wakes = False

    def __init__(self, world: World, *, spares_busy: bool = True) -> None:
        self.spares_busy = spares_busy
        self._history: list[Sample | Gap] = []
        self._spec = InferenceModelSpec.model_validate(
            {
                "type": "text-generation",
                "source": {"path": "/m"},
                "maxReplicas": world.max_replicas,
                "autoscaling": {"targetPerReplica": world.concurrency},
            }
        )

    def wanted(self, now: float, view: View) -> int:
        reading = Sample(now, view.queued, view.in_flight)
        self._history = remember(self._history, reading, self._spec)
        return decide(self._history, now, self._spec, view.replicas).replicas


@dataclass
class Keda:
    """A ScaledObject on the length of a Redis list.

    Good at: nothing but the list is asked of the application; a queue that only grows with the
    load is answered in proportion; the last 5 minutes decide, so that it does not flap. What a pod
    has taken off the list is no load to it: a remedy of its users is a trigger that counts what is
    in flight too (pendingEntriesCount of redis-streams), or a Job for each prediction.

    From 0 to 1 and back by KEDA (kedacore/keda, pkg/scaling/executor/scale_scaledobjects.go): every
    `pollingInterval` of 30 s (apis/keda/v1alpha1/withtriggers_types.go), active while the list is
    longer than activationListLength, 0 (pkg/scalers/redis_scaler.go); to 0 from however many once
    it was not active for `cooldownPeriod`, 300 s (scale_executor.go). Between 1 and the maximum by
    an HPA of an external metric per pod (kubernetes/kubernetes, pkg/controller/podautoscaler):
    ceil(length / target) unless within 10 % (replica_calculator.go), the highest of the last 300 s,
    at most to twice as many or to 4 (horizontal.go), every 15 s.
    """

    target: int
    max_replicas: int
    every: float = 15.0
    wakes: bool = False
    spares_busy: bool = False
    _looks: int = 0
    _last_active: float = -math.inf
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)

    POLL_LOOKS = 2
    COOLDOWN = 300.0
    STABILIZATION = 300.0
    TOLERANCE = 0.1

    def wanted(self, now: float, view: View) -> int:
        is_poll = self._looks % self.POLL_LOOKS == 0
        self._looks += 1
        if is_poll:
            if view.queued:
                self._last_active = now
                if not view.replicas:
                    return 1
            elif now - self._last_active > self.COOLDOWN:
                return 0
        return self._hpa(now, view) if view.replicas else 0

    def _hpa(self, now: float, view: View) -> int:
        wish = view.replicas
        if abs(1 - view.queued / (self.target * view.replicas)) > self.TOLERANCE:
            wish = math.ceil(view.queued / self.target)
        self._recommended.append((now, wish))
        while self._recommended[0][0] < now - self.STABILIZATION:
            self._recommended.popleft()
        highest = max(wish for _, wish in self._recommended)
        limit = min(self.max_replicas, max(2 * view.replicas, 4))
        return min(max(highest, 1), limit)


@dataclass
class Knative:
    """The KPA on concurrency, which is what waits and what runs.

    Good at: it sits in the path of every request, so that the first one wakes it at once; averages
    smooth a load that wavers, and it keeps 30 % of room for what comes while a pod starts.

    The formula is that of knative/serving, pkg/autoscaler/scaling/autoscaler.go, every 2 s
    (multiscaler.go), with the defaults of config/core/configmaps/autoscaler.yaml; the way to zero
    that of pkg/reconciler/autoscaling/kpa/scaler.go with the whole grace period, its upper limit.
    A window of which only the end was seen is as long as that (aggregation/bucketing.go).
    """

    concurrency: int
    max_replicas: int
    every: float = 2.0
    wakes: bool = True
    spares_busy: bool = False
    _seen: deque[tuple[float, float]] = field(default_factory=deque)
    """Time, and View.load_seconds then; of the stable window."""
    _panics_since: float = -math.inf
    _panic_pods: int = 0
    _idle_since: float | None = None

    STABLE_WINDOW = 60.0
    PANIC_WINDOW = 6.0
    PANIC_THRESHOLD = 2.0
    UTILIZATION = 0.7
    MAX_SCALE_UP_RATE = 1000.0
    MAX_SCALE_DOWN_RATE = 2.0
    SCALE_TO_ZERO_GRACE = 30.0

    def wanted(self, now: float, view: View) -> int:
        load = view.queued + view.in_flight
        if not view.replicas and not load:
            return 0
        self._seen.append((now, view.load_seconds))
        while self._seen[0][0] < now - self.STABLE_WINDOW:
            self._seen.popleft()
        ready = max(1, view.ready)
        stable = self._pods(self._average(self.STABLE_WINDOW, load), ready)
        panic = self._pods(self._average(self.PANIC_WINDOW, load), ready)
        wish = self._with_panic(now, stable, panic, ready)
        return min(self._not_yet_zero(now, wish, view.replicas), self.max_replicas)

    def _average(self, window: float, load: int) -> float:
        end, sum_at_end = self._seen[-1]
        begin, sum_at_begin = next(seen for seen in self._seen if seen[0] >= end - window)
        return (sum_at_end - sum_at_begin) / (end - begin) if end > begin else load

    def _pods(self, average: float, ready: int) -> int:
        pods = math.ceil(round(average, 6) / (self.UTILIZATION * self.concurrency))
        least = math.floor(ready / self.MAX_SCALE_DOWN_RATE)
        return min(max(pods, least), math.ceil(self.MAX_SCALE_UP_RATE * ready))

    def _with_panic(self, now: float, stable: int, panic: int, ready: int) -> int:
        """In a panic no pod goes, until the surge has come to be in the stable window."""
        if panic / ready >= self.PANIC_THRESHOLD:
            self._panics_since = now
        elif now - self._panics_since > self.STABLE_WINDOW:
            self._panic_pods = 0
            return stable
        self._panic_pods = max(self._panic_pods, stable, panic)
        return self._panic_pods

    def _not_yet_zero(self, now: float, wish: int, replicas: int) -> int:
        if wish:
            self._idle_since = None
            return wish
        if self._idle_since is None:
            self._idle_since = now
        return 0 if now - self._idle_since >= self.SCALE_TO_ZERO_GRACE else replicas
