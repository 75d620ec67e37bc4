from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from inference_gateway.postgres.stored import PassedOn
from inference_gateway.predictions.streaming.sse import StreamReader, parse_id, render
from inference_gateway.predictions.waiting.waiters import StreamEntry

DONE = ("done", "{}")
Events = list[tuple[str, str]]


def _entry(id: str, type: str, **fields: Any) -> StreamEntry:
    return StreamEntry(id.encode(), orjson.dumps({"type": type, **fields}))


def _output(id: str, piece: Any) -> StreamEntry:
    return _entry(id, "output", output=piece)


def _row(status: str, output: Any = None, error: str | None = None, **more: Any) -> Any:
    return {"status": status, "output": output, "error": error, "logs": "", "attempt": 1, **more}


def _parse(content: bytes, ids: list[str] | None = None) -> Events:
    events = []
    for block in content.decode().split("\n\n")[:-1]:
        name, event_id, *data = block.split("\n")
        assert parse_id(event_id.removeprefix("id: ")) is not None
        assert all(line.startswith("data: ") for line in data)
        events.append((name.removeprefix("event: "), "\n".join(line[6:] for line in data)))
        if ids is not None:
            ids.append(event_id.removeprefix("id: "))
    return events


def _read(
    entries: list[StreamEntry],
    row: Any = None,
    after: str | None = None,
    ids: list[str] | None = None,
) -> Events:
    reader = StreamReader(parse_id(after))
    content = b"".join(map(reader.feed, entries))
    if row is not None:
        content += b"".join(reader.finish(row))
    return _parse(content, ids)


def _joined(events: Events) -> str:
    return "".join(_outputs(events))


def _outputs(events: Events) -> list[str]:
    """What PostgreSQL makes of an object has its keys in another order, and no floats."""
    return [
        json.dumps(json.loads(data), sort_keys=True).replace(".0", "")
        if data.startswith("{")
        else data
        for name, data in events
        if name == "output"
    ]


def _assert_resumes(
    first: list[StreamEntry], row: dict[str, Any], entries: list[StreamEntry], final: Any
) -> None:
    """Wherever a reader of `first` and `row` left, it gets the rest of `entries` and `final`."""
    ids: list[str] = []
    events = _read(first, row, ids=ids)
    whole = [event for event in events if event[0] == "output"]
    for number, event_id in enumerate(ids, 1):
        rest = _read(entries, final, after=event_id)
        had = [event for event in events[:number] if event[0] == "output"]
        assert rest[-1] == DONE
        assert _joined(had + rest) == _joined(whole), event_id
        if isinstance(row["output"], list):
            assert _outputs(had + rest) == _outputs(whole)


TEXT = [_output("1-1", "a"), _entry("1-2", "logs", logs="line"), _output("1-3", "b")]
ITEMS = [_output("1-1", ""), _output("1-2", {"b": 1.0, "a": 2}), _output("1-3", "")]
AGAIN = [_output("2-1", ""), _output("2-2", "ab")]
SOURCES = [
    (TEXT, "abc", TEXT, "all of it"),
    (TEXT, "abc", [], "the row"),
    (TEXT, "abc", TEXT[1:], "a stream whose beginning is lost"),
    (TEXT, "abc", TEXT[:1] + TEXT[2:], "a stream with a gap"),
    (TEXT, "abc", AGAIN, "another attempt"),
    (TEXT, "abc", [StreamEntry(b"1-1", b"{")], "a stream of somebody else's"),
    ([], "abc", TEXT, "what was composed from the row, then a stream"),
    (ITEMS, ["", {"a": 2, "b": 1}, "", "x"], ITEMS, "all items"),
    (ITEMS, ["", {"a": 2, "b": 1}, "", "x"], [], "the row's items"),
    (ITEMS, ["", {"a": 2, "b": 1}, "", "x"], ITEMS[2:], "items whose beginning is lost"),
    ([], ["", {"a": 2, "b": 1}, "", "x"], ITEMS, "composed items, then a stream"),
    ([], {"b": 1.5, "a": None}, [], "one value"),
    (ITEMS, {"b": 1.5, "a": None}, ITEMS, "an object after its pieces"),
]


@pytest.mark.parametrize(
    ("first", "output", "entries"), [s[:3] for s in SOURCES], ids=[s[3] for s in SOURCES]
)
def test_every_id_resumes_from_whatever_is_left(
    first: list[StreamEntry], output: Any, entries: list[StreamEntry]
) -> None:
    attempt = 2 if entries is AGAIN else 1
    _assert_resumes(
        first,
        _row("succeeded", output),
        entries,
        _row("succeeded", output, attempt=attempt),
    )


@pytest.mark.parametrize(
    "entries",
    [TEXT[1:], TEXT[:1] + TEXT[2:], [*TEXT, _output("1-9", "late")], [StreamEntry(b"1-1", b"7")]],
)
def test_a_newcomer_gets_all_of_it_once_whatever_the_stream_lacks(
    entries: list[StreamEntry],
) -> None:
    events = _read(entries, _row("succeeded", "abc", logs="line"))
    assert _joined(events) == "abc"
    assert [event for event in events if event[0] == "logs"] == [("logs", "line")]
    assert events[-1] == DONE


@pytest.mark.parametrize(
    ("sent", "output"),
    [
        ([_output("1-1", "ab")], "xb"),
        ([_output("1-1", "ab")], "a"),
        ([_output("1-1", "ab")], None),
        ([_output("1-1", "a"), _output("1-2", "bc")], ["ab", "c"]),
        ([_output("1-1", "a"), _output("1-2", "bc"), _output("1-3", "d")], ["ab", "c", "d"]),
        ([_output("1-1", {"n": 1})], [{"n": 2}]),
        ([_output("1-1", [1])], [[2]]),
        ([_output("1-1", {"n": 1}), _output("1-2", 2)], [{"n": 1}]),
    ],
)
def test_what_the_row_does_not_confirm_ends_in_an_error(
    sent: list[StreamEntry], output: Any
) -> None:
    events = _read(sent, _row("succeeded", output))
    assert [name for name, _ in events[-2:]] == ["error", "done"]
    assert "another answer" in json.loads(events[-2][1])["detail"]
    assert events[-1] == ("done", '{"reason":"error"}')
    ids: list[str] = []
    _read(sent, ids=ids)
    events = _read([], _row("succeeded", output), after=ids[-1])
    assert [name for name, _ in events] == ["error", "done"]


def test_an_output_of_too_many_values_ends_in_an_error_that_says_so() -> None:
    error, done = _read([], _row("succeeded", PassedOn(b"[]")))
    assert "too many values" in json.loads(error[1])["detail"]
    assert done == ("done", '{"reason":"error"}')


def test_the_stream_alone_tells_no_end() -> None:
    assert _read([_output("1-1", "a"), _entry("1-2", "succeeded")]) == [("output", "a")]


def test_entries_of_an_attempt_that_came_to_nothing_are_left_out() -> None:
    reader = StreamReader(None, attempt=2)
    content = b"".join(map(reader.feed, [_output("1-1", "x"), _output("2-1", "a")]))
    assert _parse(content) == [("output", "a")]


def test_logs_are_those_of_the_last_attempt() -> None:
    entries = [_entry("1-1", "logs", logs="one"), _entry("2-1", "logs", logs="one two")]
    ids: list[str] = []
    events = _read(entries, ids=ids)
    assert events == [("logs", "one"), ("logs", "one two")]
    row = _row("succeeded", logs="one two three", attempt=2)
    assert _read(entries[1:], row, after=ids[1]) == [("logs", " three"), DONE]
    assert _read([], row, after=ids[0]) == [("logs", "one two three"), DONE]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a", b"data: a\n"),
        ("a\nb\n", b"data: a\ndata: b\ndata: \n"),
        ("\r\nb", b"data: \ndata: b\n"),
        ("a\rb", b"data: a\ndata: b\n"),
    ],
)
def test_an_event_of_many_lines(text: str, lines: bytes) -> None:
    assert b"".join(render("output", text, "1-2")) == b"event: output\nid: 1-2\n" + lines + b"\n"


def test_logs_that_are_not_those_that_the_reader_has_are_sent_as_they_are() -> None:
    ids: list[str] = []
    _read([_entry("1-1", "logs", logs="one")], ids=ids)
    assert _read([_entry("1-1", "logs", logs="other")], after=ids[0]) == [("logs", "other")]


def test_a_large_text_is_cut_between_its_lines() -> None:
    for offset in range(3):
        text = "x" * offset + "\r\n" * 20_000 + "\r" + "\n" * 20_000
        pieces = list(render("output", text, "1-2"))
        data = b"x" * offset + b"\ndata: " * 40_000
        assert b"".join(pieces) == b"event: output\nid: 1-2\ndata: " + data + b"\n\n"
        assert max(map(len, pieces)) < 65_536


def test_a_run_from_its_stream() -> None:
    entries = [
        _output("1-1", "a"),
        _entry("1-2", "logs", logs="line"),
        _output("1-3", "b"),
        _entry("1-4", "succeeded"),
    ]
    assert _read(entries, _row("succeeded", "ab", logs="line")) == [
        ("output", "a"),
        ("logs", "line"),
        ("output", "b"),
        DONE,
    ]


def test_entries_that_come_twice_are_sent_once() -> None:
    entries = [_output("1-1", "a"), _output("1-2", "b")]
    assert _read([*entries, *entries]) == [("output", "a"), ("output", "b")]


def test_what_follows_an_entry_that_came_twice_is_sent() -> None:
    a, b, c = (_output(f"1-{n}", piece) for n, piece in enumerate("abc", 1))
    assert _joined(_read([a, a, b])) == "ab"
    assert _joined(_read([a, b, a, c])) == "abc"


def test_what_follows_an_entry_that_is_not_ours_waits_for_the_row() -> None:
    assert _read([StreamEntry(b"1-1", b"7"), _output("1-2", "b")]) == []


def test_a_large_output_comes_whole_from_the_stream() -> None:
    assert _read([_output("1-1", "x" * 20_000)]) == [("output", "x" * 20_000)]


def test_a_whole_number_comes_as_the_float_that_it_is() -> None:
    assert _read([_output("1-1", {"b": 1.0})]) == [("output", '{"b":1.0}')]


def test_after_the_end_nothing_more_is_said() -> None:
    reader = StreamReader()
    assert list(reader.finish(_row("succeeded", "a")))
    assert reader.feed(_output("1-1", "b")) == b""
    assert list(reader.finish(_row("succeeded", "ab"))) == []


def test_after_an_error_nothing_more_is_said() -> None:
    reader = StreamReader()
    reader.feed(_output("1-1", "a"))
    assert b"event: done" in reader.feed(_output("2-1", "x"))
    assert reader.feed(_output("2-2", "y")) == b""
    assert list(reader.finish(_row("succeeded", "a", attempt=2))) == []


@pytest.mark.parametrize(
    ("row", "events"),
    [
        (_row("succeeded", "a b"), [("output", "a b"), DONE]),
        (_row("succeeded", ["a", {"b": 1}]), [("output", "a"), ("output", '{"b":1}'), DONE]),
        (_row("succeeded", {"x": 1}), [("output", '{"x":1}'), DONE]),
        (_row("succeeded"), [DONE]),
        (_row("succeeded", ""), [DONE]),
        (
            _row("failed"),
            [("error", '{"detail":"the prediction failed"}'), ("done", '{"reason":"error"}')],
        ),
        (
            _row("failed", error="no"),
            [("error", '{"detail":"no"}'), ("done", '{"reason":"error"}')],
        ),
        (_row("canceled", "a"), [("output", "a"), ("done", '{"reason":"canceled"}')]),
    ],
)
def test_without_a_stream_the_record_is_told(row: dict[str, Any], events: Events) -> None:
    assert _read([], row) == events


@pytest.mark.parametrize("again", [ITEMS, ITEMS[:1], ITEMS[1:], []])
def test_an_object_comes_whole_after_the_pieces_that_a_run_gave(again: list[StreamEntry]) -> None:
    ids: list[str] = []
    pieces = _read(ITEMS, ids=ids)
    row = _row("succeeded", {"x": 1})
    assert _read(ITEMS, row) == [*pieces, ("output", '{"x":1}'), DONE]
    assert _read(again, row, after=ids[-1]) == [("output", '{"x":1}'), DONE]


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
    events = _read(entries, _row("succeeded", "abcd", attempt=2))
    assert "".join(data for name, data in events if name == "output") == "abcd"
    assert events[-1] == DONE


def test_of_a_longer_piece_of_a_repeated_run_the_rest_is_sent() -> None:
    assert _read([_output("1-1", "a"), _output("2-1", "abc")]) == [
        ("output", "a"),
        ("output", "bc"),
    ]


def test_a_repeated_run_of_items() -> None:
    entries = [_output("1-1", {"n": 1}), _output("2-1", {"n": 1}), _output("2-2", {"n": 2})]
    assert _read(entries) == [("output", '{"n":1}'), ("output", '{"n":2}')]


@pytest.mark.parametrize(
    "second",
    [
        [_output("2-1", "x"), _output("2-2", "y")],
        [_output("2-1", "xyz")],
        [_output("2-1", {"a": 1})],
    ],
    ids=["other", "other and longer", "no-text"],
)
def test_a_repeated_run_with_another_answer_ends_the_stream(second: list[StreamEntry]) -> None:
    events = _read([_output("1-1", "a"), _output("1-2", "b"), *second, _output("2-9", "late")])
    assert events[:2] == [("output", "a"), ("output", "b")]
    assert [name for name, _ in events[2:]] == ["error", "done"]
    assert "another answer" in events[2][1]


def test_a_run_after_one_that_said_nothing_yet() -> None:
    assert _read([_output("2-1", "a")]) == [("output", "a")]


@pytest.mark.parametrize(
    "text", [None, "", "1", "1-1", "0-0-0-0-0-0-0-0", "x-0-0-0-0-0-0-0-0", "1-7"]
)
def test_what_is_no_id_begins_at_the_beginning(text: str | None) -> None:
    assert parse_id(text) is None
