"""Streams over a real connection, from what a runner writes to what a client reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from event_stream import events
from fastapi import FastAPI

from inference_contract import queues
from inference_gateway.predictions.streaming import endings
from inference_gateway.predictions.streaming.sse import StreamReader
from inference_gateway.predictions.waiting import waiters

DONE = ("done", "{}")


class Reader:
    """Reads a stream event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events = events(response)
        self.last_id = ""

    def event(self) -> tuple[str, str]:
        """Name and data; both empty at the end."""
        found = next(self._events, None)
        if found is None:
            return ("", "")
        self.last_id = found.id
        return found.event, found.data

    def rest(self) -> list[tuple[str, str]]:
        return list(iter(self.event, ("", "")))


class Stack:
    def __init__(self, url: str, headers: dict[str, str], runner: Any, wait_until: Any) -> None:
        self.http = httpx.Client(base_url=url, headers=headers, timeout=20)
        self._runner = runner
        self._wait_until = wait_until

    def create(self) -> dict[str, Any]:
        """The job of a new prediction."""
        body = {"model_id": "ada/echo", "input": {"text": "hi"}}
        made = self.http.post("/v1/predictions", json=body).raise_for_status().json()
        return dict(
            self._wait_until(lambda: [j for j in self._runner.waiting() if j["id"] == made["id"]])[
                0
            ]
        )

    @contextmanager
    def read(self, job: dict[str, Any], after: str | None = None) -> Iterator[Reader]:
        headers = {} if after is None else {"Last-Event-ID": after}
        url = f"/v1/predictions/{job['id']}/stream"
        with self.http.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200
            yield Reader(response)


@pytest.fixture
def stack(
    echo: str,
    live_url: str,
    auth: Callable[..., dict[str, str]],
    runner: Any,
    recorder: Any,
    wait_until: Any,
) -> Iterator[Stack]:
    stack = Stack(live_url, auth("ada"), runner, wait_until)
    yield stack
    stack.http.close()


def test_output_comes_as_it_is_made(stack: Stack, runner: Any) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        headers = reader.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        runner.stream(job, 1, "output", output="a\nb")
        assert reader.event() == ("output", "a\nb")
        runner.stream(job, 2, "logs", logs="line")
        assert reader.event() == ("logs", "line")
        runner.stream(job, 3, "succeeded")
        runner.send("succeeded", job, output="a\nb", streamed=True)
        assert reader.rest() == [DONE]


def test_a_reader_resumes_where_it_was(stack: Stack, runner: Any) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        runner.stream(job, 1, "output", output="a")
        reader.event()
        last = reader.last_id
    runner.stream(job, 2, "output", output="b")
    with stack.read(job, after=last) as reader:
        assert reader.event() == ("output", "b")
        runner.stream(job, 3, "succeeded")
        runner.send("succeeded", job, output="ab")
        assert reader.rest() == [DONE]


def test_a_late_reader_gets_everything(stack: Stack, runner: Any) -> None:
    job = stack.create()
    for number in range(1, 501):
        runner.stream(job, number, "output", output=f"{number},")
    runner.stream(job, 501, "succeeded")
    runner.send("succeeded", job, output="".join(f"{n}," for n in range(1, 501)))
    with stack.read(job) as reader:
        events = reader.rest()
    assert events.pop() == DONE
    assert "".join(data for _, data in events) == "".join(f"{n}," for n in range(1, 501))


def test_a_run_that_does_not_stream(stack: Stack, runner: Any) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        runner.send("succeeded", job, output=["a", {"b": 1}])
        assert reader.rest() == [("output", "a"), ("output", '{"b":1}'), DONE]


def test_an_ended_prediction_is_replayed_from_its_row(
    stack: Stack, runner: Any, sql: Callable[..., Any]
) -> None:
    job = stack.create()
    sql(
        "UPDATE predictions SET status = 'failed', error = 'no', error_code = 'model_error', "
        "completed_at = now()"
    )
    with stack.read(job) as reader:
        assert reader.rest() == [("error", '{"detail":"no"}'), ("done", '{"reason":"error"}')]


def test_a_second_attempt_goes_on_where_the_first_was(
    stack: Stack, runner: Any, sql: Callable[..., Any]
) -> None:
    job = stack.create()
    second = {**job, "attempt": 2, "token": "second"}
    with stack.read(job) as reader:
        runner.stream(job, 1, "output", output="one ")
        assert reader.event() == ("output", "one ")
        sql("UPDATE predictions SET attempt = 2, token = 'second'")
        runner.stream(second, 1, "output", output="one two")
        assert reader.event() == ("output", "two")
        runner.send("succeeded", second, output="one two three")
        assert reader.rest() == [("output", " three"), DONE]


def test_cancel_ends_the_stream(stack: Stack) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        stack.http.post(f"/v1/predictions/{job['id']}/cancel").raise_for_status()
        assert reader.rest() == [("done", '{"reason":"canceled"}')]


def test_the_accept_header_chooses_the_stream(stack: Stack, runner: Any) -> None:
    job = stack.create()
    runner.stream(job, 1, "output", output="a")
    runner.stream(job, 2, "succeeded")
    runner.send("succeeded", job, output="a")
    url, accept = f"/v1/predictions/{job['id']}", {"Accept": "text/event-stream"}
    with stack.http.stream("GET", url, headers=accept) as response:
        assert Reader(response).rest() == [("output", "a"), DONE]


def test_nobody_is_told_an_end_before_it_is_recorded(
    stack: Stack, runner: Any, recorder: Any
) -> None:
    recorder.stop()
    recorder.join(10)
    job = stack.create()
    with stack.read(job) as reader:
        runner.stream(job, 1, "output", output="a")
        runner.stream(job, 2, "succeeded")
        runner.send("succeeded", job, output="a", streamed=True)
        assert reader.event() == ("output", "a")
        canceled = stack.http.post(f"/v1/predictions/{job['id']}/cancel").json()
        assert canceled["status"] != "succeeded"
        runner.redis.delete(queues.events_key("ada_echo"))  # The event is lost for good.
        again = stack.http.post(f"/v1/predictions/{job['id']}/cancel").json()
        assert again["status"] == "canceled"
        assert reader.rest() == [("done", '{"reason":"canceled"}')]


@pytest.mark.parametrize("output", ["abc", ["a", "b", "c"]])
def test_a_reader_who_comes_after_redis_lost_its_data_gets_all_of_it(
    stack: Stack, runner: Any, output: Any
) -> None:
    job = stack.create()
    runner.stream(job, 1, "output", output="a")
    with stack.read(job) as early:
        assert early.event() == ("output", "a")
        runner.redis.flushall()
        with stack.read(job) as late:
            runner.stream(job, 2, "output", output="b")
            assert early.event() == ("output", "b")
            runner.stream(job, 3, "output", output="c")
            runner.stream(job, 4, "succeeded")
            runner.redis.xadd(queues.DOORBELL, {"model": "ada_echo"})
            runner.send("succeeded", job, output=output, streamed=True)
            assert early.rest() == [("output", "c"), DONE]
            whole = late.rest()
    assert "".join(data for name, data in whole if name == "output") == "abc"
    assert whole[-1] == DONE


@pytest.mark.parametrize("output", ["abc", ["a", "b", "c"]])
def test_a_reader_resumes_long_after_the_end_from_the_row(
    stack: Stack, runner: Any, output: Any
) -> None:
    job = stack.create()
    for number, piece in enumerate("abc", 1):
        runner.stream(job, number, "output", output=piece)
    runner.stream(job, 4, "succeeded")
    runner.send("succeeded", job, output=output, streamed=True)
    ids = []
    with stack.read(job) as reader:
        while reader.event() != DONE:
            ids.append(reader.last_id)
        last = reader.last_id
    runner.redis.delete(queues.stream_key("ada_echo", job["id"]))
    for number, event_id in enumerate(ids, 1):
        with stack.read(job, after=event_id) as reader:
            rest = reader.rest()
        assert "".join(data for name, data in rest if name == "output") == "abc"[number:]
        assert rest[-1] == DONE
    with stack.read(job, after=last) as reader:
        assert reader.rest() == [DONE]


@pytest.mark.parametrize("second", ["again", "one two"])
def test_a_reader_of_a_lost_attempt_resumes_in_the_next_or_hears_that_it_cannot(
    stack: Stack, runner: Any, sql: Callable[..., Any], second: str
) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        runner.stream(job, 1, "output", output="one ")
        assert reader.event() == ("output", "one ")
    sql("UPDATE predictions SET attempt = 2, token = 'second'")
    runner.redis.flushall()
    later = {**job, "attempt": 2, "token": "second"}
    runner.stream(later, 1, "output", output=second)
    with stack.read(job, after=reader.last_id) as reader:
        runner.redis.xadd(queues.DOORBELL, {"model": "ada_echo"})
        runner.send("succeeded", later, output=second)
        events = reader.rest()
    if second == "one two":
        assert events == [("output", "two"), DONE]
    else:
        assert [name for name, _ in events] == ["error", "done"]
        assert events[-1] != DONE


def test_heartbeats(stack: Stack, app: FastAPI, runner: Any) -> None:
    app.state.services.predictions.streams.heartbeat_seconds = 0.05
    job = stack.create()
    with stack.read(job) as reader:
        lines = reader.response.iter_lines()
        waits = ": starting: NotSeenYet: the operator has not looked at the model yet"
        assert [next(lines), next(lines), next(lines)] == [waits, "", waits]


def test_a_slow_reader_loses_nothing(
    stack: Stack, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "_MAX_BUFFERED", 3)
    job = stack.create()
    with stack.read(job) as reader:
        with runner.redis.pipeline(transaction=True) as pipe:
            for number in range(1, 50):
                key = queues.stream_key("ada_echo", job["id"])
                content = b'{"type":"output","output":"%d,"}' % number
                pipe.xadd(key, {"d": content}, id=f"1-{number}")
            pipe.execute()
        runner.stream(job, 50, "succeeded")
        runner.send("succeeded", job, output="".join(f"{n}," for n in range(1, 50)))
        events = reader.rest()
    assert "".join(data for _, data in events[:-1]) == "".join(f"{n}," for n in range(1, 50))


def test_what_a_row_adds_is_made_on_a_thread_of_its_own(
    stack: Stack, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be megabytes."""
    job = stack.create()
    sql(
        "UPDATE predictions SET status = 'failed', error = 'no', error_code = 'model_error', "
        "completed_at = now()"
    )
    threads, loops = [], set()
    finish, begin = StreamReader.finish, StreamReader.__init__

    def finish_here(self: StreamReader, row: Any) -> Iterator[bytes]:
        threads.append(threading.current_thread())
        yield from finish(self, row)

    def begin_here(self: StreamReader, *arguments: Any) -> None:
        loops.add(threading.current_thread())
        begin(self, *arguments)

    monkeypatch.setattr(StreamReader, "finish", finish_here)
    monkeypatch.setattr(StreamReader, "__init__", begin_here)
    with stack.read(job) as reader:
        assert reader.rest()[0] == ("error", '{"detail":"no"}')
    (thread,) = threads
    assert thread is not loops.pop()


def _ended(stack: Stack, sql: Callable[..., Any], output: str) -> dict[str, Any]:
    job = stack.create()
    sql(
        "UPDATE predictions SET status = 'succeeded', completed_at = now(), output = "
        f"({output})::jsonb WHERE completed_at IS NULL"
    )
    return job


def test_of_an_output_of_line_ends_no_more_is_in_memory_than_is_read(
    stack: Stack, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of them is seven times as large as they are."""
    sizes = []
    make = endings.next_piece

    def watched(events: Iterator[bytes]) -> tuple[bytes, bool]:
        piece, is_last = make(events)
        sizes.append(len(piece))
        return piece, is_last

    monkeypatch.setattr(endings, "next_piece", watched)
    job = _ended(stack, sql, "to_jsonb(repeat(chr(10), 300000))")
    with stack.read(job) as reader:
        assert reader.rest() == [("output", "\n" * 300_000), DONE]
    assert max(sizes) < 100_000
    assert sum(sizes) > 2_000_000


def test_an_output_of_very_many_values_is_not_taken_apart(
    stack: Stack, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "_MAX_VALUES", 20_000)
    job = _ended(stack, sql, "SELECT jsonb_agg(n) FROM generate_series(1, 20000) AS n")
    with stack.read(job) as reader:
        assert len(reader.rest()) == 20_001
    job = _ended(stack, sql, "SELECT jsonb_agg(n) FROM generate_series(1, 30000) AS n")
    with stack.read(job) as reader:
        (name, detail), done = reader.rest()
    assert (name, done) == ("error", ("done", '{"reason":"error"}'))
    assert "too many values" in detail


def test_a_large_entry_is_read_on_a_thread(
    stack: Stack, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = []
    feed = StreamReader.feed

    def watched(self: StreamReader, entry: Any) -> bytes:
        fed.append((len(entry.data), threading.current_thread().name))
        return feed(self, entry)

    monkeypatch.setattr(StreamReader, "feed", watched)
    job = stack.create()
    runner.stream(job, 1, "output", output="x" * 500_000)
    runner.stream(job, 2, "output", output="y")
    with stack.read(job) as reader:
        assert [reader.event(), reader.event()] == [("output", "x" * 500_000), ("output", "y")]
    loop = dict(fed)[min(fed)[0]]
    assert [size for size, name in fed if name == loop] == [min(fed)[0]]


def test_a_stopping_gateway_ends_its_streams(stack: Stack, app: FastAPI) -> None:
    job = stack.create()
    with stack.read(job) as reader:
        threading.Timer(0.1, app.state.services.predictions.release).start()
        assert reader.rest() == []
