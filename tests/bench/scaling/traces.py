"""Days of load, made by seeded generators: the same seed gives the same day."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

HOUR = 3600.0
DAY = 24 * HOUR
LONGEST_RUN = 300.0
"""Seconds; the default of spec.timeouts.predictSeconds."""


class Prediction(NamedTuple):
    arrives: float
    """Seconds of the day."""
    runs: float
    """Seconds."""


Trace = list[Prediction]
"""In order of arrival."""

_OFFICE = {8: 1.0, 9: 3.0, 10: 4.0, 11: 4.0, 12: 1.0, 13: 3.0, 14: 4.0, 15: 4.0, 16: 3.0, 17: 1.0}
"""Predictions a second by the hour of the day, with a dip for lunch; in between straight lines."""
_NIGHT = 0.01


def office_day(seed: int = 1) -> Trace:
    """About 100,000 predictions of 3 s."""
    random = Random(seed)
    arrivals = _poisson(random, max(_OFFICE.values()), _office_rate)
    return [Prediction(at, _around(random, 3)) for at in arrivals]


def cron(seed: int = 2) -> Trace:
    """Every hour, at a second of its own, 200 predictions of 6 s within 5 s; nothing else."""
    random = Random(seed)
    begins = [hour * HOUR + random.uniform(0, 60) for hour in range(24)]
    arrivals = (begin + random.uniform(0, 5) for begin in begins for _ in range(200))
    return [Prediction(at, _around(random, 6)) for at in sorted(arrivals)]


def spike(seed: int = 3) -> Trace:
    """After 13 hours of silence 500 predictions of 6 s within 10 s; nothing else."""
    random = Random(seed)
    begin = 13 * HOUR + random.uniform(0, 60)
    arrivals = sorted(begin + random.uniform(0, 10) for _ in range(500))
    return [Prediction(at, _around(random, 6)) for at in arrivals]


def trickle(seed: int = 4) -> Trace:
    """One prediction of 2 s every 20 s."""
    phase = Random(seed).uniform(0, 20)
    return [Prediction(phase + 20 * number, 2) for number in range(int(DAY / 20))]


def heavy_tail(seed: int = 5) -> Trace:
    """About 86,000 predictions, one a second; most take 3 s, some 5 minutes (Pareto)."""
    random = Random(seed)
    arrivals = _poisson(random, 1, lambda _: 1)
    return [Prediction(at, min(3 * random.paretovariate(1.3), LONGEST_RUN)) for at in arrivals]


def _poisson(random: Random, peak: float, rate: Callable[[float], float]) -> Iterator[float]:
    """Arrivals of a rate that changes over the day, by thinning those of its peak."""
    at = random.expovariate(peak)
    while at < DAY:
        if random.random() * peak < rate(at):
            yield at
        at += random.expovariate(peak)


def _office_rate(at: float) -> float:
    hour, part = divmod(at / HOUR, 1)
    before, after = _OFFICE.get(int(hour), _NIGHT), _OFFICE.get(int(hour) + 1, _NIGHT)
    return before + (after - before) * part


def _around(random: Random, mean: float) -> float:
    """Seconds; log-normal, half as wide as long."""
    sigma = math.sqrt(math.log(1.25))
    return random.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)
