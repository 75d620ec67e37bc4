"""Deliveries that cannot be made: each comes to an end, and the others are made."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from inference_gateway.webhooks.sending import Sender


@pytest.mark.parametrize(
    "change",
    [
        *(f"input = ('{'[' * depth}{']' * depth}')::jsonb" for depth in (251, 253, 300, 3000)),
        "metrics = '[1]'",
        "input = '1e30'",
        "input = ('1' || repeat('0', 400))::jsonb",
        "started_at = 'infinity', created_at = '-infinity'",
        "deadline = '200000-01-01'",
    ],
)
def test_a_prediction_that_the_api_would_not_take_is_told_of(
    lab: Any, receiver: Any, wait_until: Any, change: str
) -> None:
    it = receiver((200, {}))
    bad, fine = lab.insert(it.url), lab.insert(it.url)
    lab.sql("ALTER TABLE predictions DISABLE TRIGGER USER")
    lab.sql(
        f"UPDATE predictions SET {change} WHERE id ="
        " (SELECT prediction_id FROM webhook_deliveries WHERE id = :id)",
        id=bad,
    )
    lab.delivery().step()
    wait_until(lambda: lab.row(fine)["state"] == lab.row(bad)["state"] == "delivered")


@pytest.mark.parametrize("url", ["", "http://[", "no URL", "HTTP://UPPER/", "http://a\tb/"])
def test_a_url_that_the_api_would_not_take_fails_alone(
    lab: Any, receiver: Any, wait_until: Any, url: str
) -> None:
    it = receiver((200, {}))
    bad, fine = lab.insert(url), lab.insert(it.url)
    lab.delivery().step()
    wait_until(lambda: lab.row(fine)["state"] == "delivered")
    wait_until(lambda: lab.row(bad)["last_error"] is not None)


def test_what_cannot_be_encoded_is_not_tried_for_ever(lab: Any, wait_until: Any) -> None:
    bad = lab.insert("http://127.0.0.1:1/")
    lab.delivery(render=lambda _: {"a": 2**70}).step()
    wait_until(lambda: lab.row(bad)["state"] == "failed")
    assert "cannot be sent" in lab.row(bad)["last_error"]


def test_a_sender_that_breaks_has_its_attempts_counted(
    lab: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What is logged goes into the report, and xdist passes on no half of a character.
    caplog.set_level(logging.CRITICAL, logger="inference_gateway")

    def broken(*_: object) -> None:
        raise IndexError("a\0b\ud800")

    monkeypatch.setattr(Sender, "_post", broken)
    bad = lab.insert("http://127.0.0.1:1/")
    lab.delivery().step()
    wait_until(lambda: lab.row(bad)["last_error"] is not None)
    assert lab.row(bad)["due_in"] > 4
