from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from inference_gateway.webhooks import signing
from inference_gateway.webhooks.retry import (
    DeliveryState,
    Next,
    Receipt,
    conclude,
    parse_retry_after,
    schedule,
)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "jitter", "delay"),
    [
        (1, None, 0.0, 5),
        (1, None, 1.0, 6),
        (2, None, 0.0, 30),
        (3, None, 0.5, 132),
        (10, None, 0.0, 28_800),
        (11, None, 0.0, None),
        (11, 5.0, 0.0, None),
        (1, 60.0, 0.0, 60),
        (1, 2.0, 0.0, 5),
        (1, 1e9, 0.0, 28_800),
    ],
)
def test_schedule(
    attempt: int, retry_after: float | None, jitter: float, delay: float | None
) -> None:
    assert schedule(attempt, retry_after, jitter) == delay


def test_it_is_tried_for_about_a_day() -> None:
    total = sum(schedule(attempt, None, 0.5) or 0 for attempt in range(1, 11))
    assert 22 < total / 3600 < 27


@pytest.mark.parametrize(
    ("answer", "following"),
    [
        (Receipt(200), Next(DeliveryState.DELIVERED)),
        (Receipt(299), Next(DeliveryState.DELIVERED)),
        (Receipt(199), Next(DeliveryState.PENDING, 5)),
        (Receipt(300), Next(DeliveryState.PENDING, 5)),
        (Receipt(301), Next(DeliveryState.PENDING, 5)),
        (Receipt(404), Next(DeliveryState.PENDING, 5)),
        (Receipt(410), Next(DeliveryState.FAILED)),
        (Receipt(429, retry_after=90), Next(DeliveryState.PENDING, 90)),
        (Receipt(500), Next(DeliveryState.PENDING, 5)),
        (Receipt(None, "connection refused"), Next(DeliveryState.PENDING, 5)),
        (Receipt(None, "private", final=True), Next(DeliveryState.FAILED)),
    ],
)
def test_conclude(answer: Receipt, following: Next) -> None:
    assert conclude(1, answer, jitter=0.0) == following


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Tue, 24 Nov 2026 00:01:30 GMT", 90),
        ("Mon, 23 Nov 2026 00:00:00 GMT", 0),
        ("Tue, 24 Nov 2026 02:01:30 +0200", 90),
        ("Tue, 24 Nov 2026 00:01:30 -0000", 90),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_parse_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, datetime(2026, 11, 24, tzinfo=UTC)) == seconds


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the Standard Webhooks specification's reference implementations."""
    headers = signing.headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        [b'{"test": 2432232314}'],
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_id_is_the_deliverys() -> None:
    assert signing.message_id(UUID(int=1)) == "msg_00000000-0000-0000-0000-000000000001"
