"""Health states of the gateway's dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HealthState(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    """Works, with limitations."""
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Dependency:
    status: HealthState
    message: str
