"""Which of two media types a caller prefers."""

from __future__ import annotations

import pytest

from inference_gateway.http.accept_header import prefers

STREAM, JSON = "text/event-stream", "application/json"


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream ; charset=utf-8", True),
        ("text/event-stream, application/json;q=0.9", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("application/json; q=0.5 , text/*;q=0.8", True),
        ("text/event-stream, */*", True),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream", False),
        ("application/json;q=1, text/event-stream", False),
        ("application/json, text/event-stream;q=0.9", False),
        ("text/event-stream;q=0, */*", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0.5", True),
        ("application/json;q=0.5, text/event-stream;q=1", True),
        ("*/*", False),
        ("", False),
        ("text/html", False),
        ("text/event-stream;q=0.1, */*;q=0.2", False),
        (",,;q=;, q=1", False),
    ],
)
def test_the_higher_quality_wins(accept: str, is_stream: bool) -> None:
    assert prefers(accept, STREAM, JSON) is is_stream
