"""What is said of a server that the gateway needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HealthState(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    """Serves, with less."""
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Dependency:
    status: HealthState
    message: str
