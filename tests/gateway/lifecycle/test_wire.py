"""Moments as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from inference_gateway.lifecycle.wire import rfc3339

_ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone.min])
_SECONDS = st.integers(-62_000_000_000, 253_000_000_000)
_MOMENTS = st.builds(
    lambda seconds, microseconds, zone: (
        datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds, microseconds=microseconds)
    ).astimezone(zone),
    _SECONDS,
    st.just(0) | st.integers(0, 999_999),
    _ZONES,
)


@given(_MOMENTS)
def test_a_moment_is_utc_with_microseconds(moment: datetime) -> None:
    expected = moment.astimezone(UTC).strftime("%m-%dT%H:%M:%S.%fZ")
    assert rfc3339(moment) == f"{moment.astimezone(UTC).year:04d}-{expected}"
