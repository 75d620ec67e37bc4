"""The length of a lease."""

from __future__ import annotations

LEASE_SECONDS: float = 30
"""Default for the seconds without a heartbeat after which a running attempt counts as lost:
dispatch and all runners must use the same."""
