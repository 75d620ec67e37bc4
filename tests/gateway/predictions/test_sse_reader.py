from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference_gateway.predictions.sse import StreamReader, parse_id, render
from inference_gateway.predictions.waiters import StreamEntry

DONE = ("done", "{}")
Events = list[tuple[str, str]]


def _entry(id: str, type: str, **fields: Any) -> StreamEntry:
    return StreamEntry(id.encode(), orjson.dumps({"type": type, **fields}))


def _output(id: str, piece: Any) -> StreamEntry:
    return _entry(id, "output", output=piece)


def _row(status: str, output: Any = None, error: str | None = None) -> dict[str, Any]:
    return {"status": status, "output": output, "error": error}


def _parse(content: bytes) -> Events:
    events = []
    for block in content.decode().split("\n\n")[:-1]:
        name, event_id, *data = block.split("\n")
        assert parse_id(event_id.removeprefix("id: ")) is not None
        assert all(line.startswith("data: ") for line in data)
        events.append((name.removeprefix("event: "), "\n".join(line[6:] for line in data)))
    return events


def _read(
    entries: list[StreamEntry], row: dict[str, Any] | None = None, after: str | None = None
) -> Events:
    reader = StreamReader(parse_id(after))
    content = b"".join(map(reader.feed, entries)) + reader.caught_up()
    if row is not None:
        content += reader.finish(row)
    return _parse(content)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a", b"data: a\n"),
        ("a\nb\n", b"data: a\ndata: b\ndata: \n"),
        ("\r\nb", b"data: \ndata: b\n"),
    ],
)
def test_an_event_of_many_lines(text: str, lines: bytes) -> None:
    assert render("output", text, (1, 2)) == b"event: output\nid: 1-2\n" + lines + b"\n"


def test_a_run_from_its_stream() -> None:
    entries = [
        _output("1-1", "a"),
        _entry("1-2", "logs", logs="line"),
        _output("1-3", "b"),
        _entry("1-4", "succeeded"),
    ]
    assert _read(entries) == [("output", "a"), ("logs", "line"), ("output", "b"), DONE]


def test_entries_that_come_twice_are_sent_once() -> None:
    entries = [_output("1-1", "a"), _output("1-2", "b")]
    assert _read([*entries, *entries]) == [("output", "a"), ("output", "b")]


def test_a_stream_resumes_after_an_event() -> None:
    entries = [_output("1-1", "a"), _output("1-2", "b"), _entry("1-3", "succeeded")]
    assert _read(entries, after="1-1") == [("output", "b"), DONE]
    assert _read(entries, after="1-3") == [DONE]


def test_a_stream_that_is_gone_cannot_be_resumed() -> None:
    events = _read([], _row("succeeded", "ab"), after="1-7")
    assert [name for name, _ in events] == ["error", "done"]


@pytest.mark.parametrize(
    ("row", "events"),
    [
        (_row("succeeded", "a b"), [("output", "a b"), DONE]),
        (_row("succeeded", ["a", {"b": 1}]), [("output", "a"), ("output", '{"b":1}'), DONE]),
        (_row("succeeded", {"x": 1}), [("output", '{"x":1}'), DONE]),
        (_row("succeeded"), [DONE]),
        (
            _row("failed", error="no"),
            [("error", '{"detail":"no"}'), ("done", '{"reason":"error"}')],
        ),
        (_row("canceled", "a"), [("output", "a"), ("done", '{"reason":"canceled"}')]),
    ],
)
def test_without_a_stream_the_record_is_told(row: dict[str, Any], events: Events) -> None:
    assert _read([], row) == events


def test_what_is_told_of_the_record_resumes_too() -> None:
    row = _row("succeeded", ["a", "b"])
    assert _read([], row, after="0-1") == [("output", "b"), DONE]
    assert _read([], row, after="0-3") == [DONE]


def test_a_stream_without_its_end_is_completed_by_the_record() -> None:
    assert _read([_output("1-1", "a")], _row("succeeded", "abc")) == [
        ("output", "a"),
        ("output", "bc"),
        DONE,
    ]


def test_a_run_that_failed_without_a_last_word() -> None:
    events = _read([_output("1-1", "a")], _row("failed", error="runner died"))
    assert events[1:] == [("error", '{"detail":"runner died"}'), ("done", '{"reason":"error"}')]


@pytest.mark.parametrize("second", [["ab", "c", "d"], ["a", "bcd"], ["abcd"], ["a", "b", "c", "d"]])
def test_a_repeated_run_sends_only_what_is_new(second: list[str]) -> None:
    entries = [_output("1-1", "a"), _output("1-2", "bc")]
    entries += [_output(f"2-{n}", piece) for n, piece in enumerate(second, 1)]
    events = _read([*entries, _entry("2-9", "succeeded")])
    assert "".join(data for name, data in events if name == "output") == "abcd"
    assert events[-1] == DONE


def test_a_repeated_run_of_items() -> None:
    entries = [_output("1-1", {"n": 1}), _output("2-1", {"n": 1}), _output("2-2", {"n": 2})]
    assert _read(entries) == [("output", '{"n":1}'), ("output", '{"n":2}')]


@pytest.mark.parametrize(
    "second",
    [
        [_output("2-1", "x")],
        [_output("2-1", "a"), _entry("2-2", "succeeded")],
        [_output("2-1", {"a": 1})],
    ],
    ids=["other", "shorter", "no-text"],
)
def test_a_repeated_run_with_another_answer_ends_the_stream(second: list[StreamEntry]) -> None:
    events = _read([_output("1-1", "a"), _output("1-2", "b"), *second, _output("2-9", "late")])
    assert events[:2] == [("output", "a"), ("output", "b")]
    assert [name for name, _ in events[2:]] == ["error", "done"]
    assert "another answer" in events[2][1]


def test_a_run_after_one_that_said_nothing_yet() -> None:
    entries = [_output("2-1", "a"), _entry("2-2", "succeeded")]
    assert _read(entries) == [("output", "a"), DONE]


@pytest.mark.parametrize("text", [None, "", "1", "1-", "x-1", "-1-1", "1-2-3"])
def test_what_is_no_id_begins_at_the_beginning(text: str | None) -> None:
    assert parse_id(text) is None
