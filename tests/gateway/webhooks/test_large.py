"""Webhooks of predictions whose outputs are large, sent by dispatch as it is started."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dispatch_process
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

KEY = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
OWNERS = ("ada", "bob")
EACH = 4
MIB = 2**20


class Slow:
    """Takes nothing of what it is sent until `go` is set; then notes each output's digest."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = 0
        self.outputs: dict[str, str] = {}
        it = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                it.waiting += 1
                it.go.wait(60)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                output = body.partition(b'"output":')[2].partition(b',"logs":')[0]
                try:
                    KEY.verify(body, dict(self.headers), json_parse=False)
                    said = hashlib.sha256(output).hexdigest()
                except WebhookVerificationError:
                    said = "not signed"
                it.outputs[self.headers["webhook-id"]] = said
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def dispatch(
    database_url: str, redis_url: str, tmp_path: Path, wait_until: Callable[..., Any]
) -> Iterator[Callable[[], int]]:
    """Starts it, and returns its pid."""
    processes = []
    environment = dispatch_process.environment(
        database_url,
        redis_url,
        tmp_path,
        WEBHOOK_ALLOW_LOOPBACK="true",
        WEBHOOK_TIMEOUT_SECONDS="60",
    )

    def start() -> int:
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                dispatch_process.ARGV, env=environment, cwd=tmp_path, stderr=log
            )
        processes.append(process)
        state = tmp_path / "state.json"
        wait_until(state.exists)
        return int(json.loads(state.read_text())["pid"])

    yield start
    for process in processes:
        process.kill()
        process.wait()


def _peak_mib(pid: int) -> float:
    """Of the memory that the process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


LISTS = {
    "numbers": f"[{','.join(['1'] * 3_000_000)}]",  # 9 MB as they are sent
    "of a depth that is seen only without texts": f'["{"[" * 300}"{",1" * 3_000_000}]',
}


@pytest.mark.parametrize("output", LISTS.values(), ids=LISTS)
def test_many_large_outputs_for_slow_receivers_take_bounded_memory(
    lab: Any, slow: Slow, dispatch: Any, wait_until: Any, output: str
) -> None:
    lab.account("bob")
    sent = [
        lab.insert(slow.url, owner=owner, output=f'["{owner} {number}",{output[1:]}')
        for owner in OWNERS
        for number in range(EACH)
    ]
    pid = dispatch()
    wait_until(lambda: slow.waiting >= 4, timeout=60)
    slow.go.set()
    wait_until(lambda: all(lab.row(one)["state"] == "delivered" for one in sent), timeout=100)
    stored = lab.sql(
        "SELECT d.id, encode(sha256(convert_to(output::text, 'UTF8')), 'hex') AS digest"
        " FROM webhook_deliveries d JOIN predictions p ON p.id = prediction_id"
    )
    assert slow.outputs == {f"msg_{row['id']}": row["digest"] for row in stored}
    assert {row["attempts"] for row in lab.sql("SELECT attempts FROM webhook_deliveries")} == {1}
    assert _peak_mib(pid) < 300


def test_what_compresses_well_is_not_small(
    lab: Any, slow: Slow, dispatch: Any, wait_until: Any
) -> None:
    """PostgreSQL stores a hundredth of it."""
    output = f"[{','.join(['1e300'] * 30_000)}]"
    sent = [lab.insert(slow.url, output=output) for _ in range(EACH)]
    slow.go.set()
    pid = dispatch()
    wait_until(lambda: all(lab.row(one)["state"] == "delivered" for one in sent), timeout=100)
    assert _peak_mib(pid) < 300


def test_who_waits_for_slow_receivers_of_large_outputs_leaves_room_for_others(
    lab: Any, slow: Slow, receiver: Any, dispatch: Any, wait_until: Any
) -> None:
    it = receiver((200, {}))
    lab.account("bob")
    for _ in range(EACH):
        lab.insert(slow.url, output=LISTS["numbers"])
    dispatch()
    wait_until(lambda: slow.waiting >= 3, timeout=60)
    strangers = [lab.insert(it.url, owner="bob", output=o) for o in ("1", LISTS["numbers"])]
    wait_until(lambda: all(lab.row(one)["state"] == "delivered" for one in strangers), timeout=60)
    assert slow.outputs == {}


def test_a_prediction_larger_than_a_webhook_may_be_is_told_of(
    lab: Any, receiver: Any, wait_until: Any
) -> None:
    it = receiver((200, {}))
    output = f"[{','.join(['1e300'] * 120_000)}]"  # 300 characters each
    delivery = lab.insert(it.url, output=output)
    lab.delivery().step()
    wait_until(lambda: lab.row(delivery)["state"] == "delivered", timeout=60)
    ((_, _, body),) = it.got
    told = json.loads(body)
    assert (told["status"], told["output"], told["error_code"]) == ("succeeded", None, "unreadable")
    assert "larger than 32000000 bytes" in told["error"]
