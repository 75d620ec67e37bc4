"""How long a runner need not be heard of."""

from __future__ import annotations

LEASE_SECONDS: float = 30
"""Silence after which a running attempt counts as dead, where no setting says otherwise: dispatch
and every runner must go by the same."""
