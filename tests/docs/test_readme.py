"""The README does what it says: its walk-through, block by block, in bash, on a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import guide
import pytest
from guide import Bash

from inference_contract import statefile
from inference_local.home import Home

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text()
WALK_THROUGH = README[README.index("## Walk-through") :]


class Server(NamedTuple):
    url: str
    env: dict[str, str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """`inference up`, with a tiny model where the hub's `gpt2` would be."""
    home = Home(tmp_path / "home")
    env = {
        **os.environ,
        "INFERENCE_HOME": str(home.root),
        "MODEL_CACHE_DIR": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    tiny = [sys.executable, str(HERE / "tiny_gpt2.py"), str(tmp_path / "cache" / "gpt2")]
    subprocess.run(tiny, check=True, capture_output=True)
    subprocess.run([BIN / "inference", "up", "--port", "0"], env=env, check=True)
    try:
        yield Server((statefile.read(home.supervisor_file) or {})["url"], env)
    finally:
        subprocess.run([BIN / "inference", "down"], env=env, check=True)


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The URL of a webhook receiver, and the headers of what it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            got.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{receiver.server_address[1]}", got
    receiver.shutdown()
    receiver.server_close()
    thread.join()


def differences(shown: Any, real: Any, path: str = "reply") -> Iterable[str]:
    """Where a reply lacks what the README shows; values may differ, names and types may not."""
    if isinstance(shown, dict) and isinstance(real, dict):
        for name, value in shown.items():
            if name not in real:
                yield f"{path}.{name} is missing"
            else:
                yield from differences(value, real[name], f"{path}.{name}")
    elif shown is not None and type(shown) is not type(real):
        yield f"{path} is {json.dumps(real)}, the README shows {json.dumps(shown)}"


def test_the_walk_through(
    server: Server,
    received: tuple[str, list[dict[str, str]]],
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> None:
    written = ""
    with Bash(server.env, tmp_path) as bash:
        for language, text in guide.blocks(WALK_THROUGH):
            script = text.replace("http://localhost:8000", server.url)
            script = script.replace("https://your-server.com", received[0])
            script = script.replace(".venv/bin/", f"{BIN}/")
            if language == "bash":
                written = bash.run(script)
                refused = re.search(r'"status": ?[45]\d\d\b', written)
                assert not refused, f"{text}\n{written}"
            elif language == "json":
                shown = json.loads(text)
                assert list(differences(shown, json.loads(written))) == []
                if shown.get("status") is not None:
                    assert json.loads(written)["status"] == shown["status"]
    assert wait_until(lambda: received[1])[0]["webhook-signature"].startswith("v1,")


def test_it_begins_with_the_two_commands() -> None:
    block = guide.blocks(README)[0].text
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make up", "make test"]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_what_it_links_to_is_there(link: str) -> None:
    assert (ROOT / link).exists()
