"""Text generation: streamed through the whole server, and by the engine in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import yaml

import report
from stack import Stack

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "crds" / "examples" / "smollm2.yaml"
CONNECTIONS = (1, 8)
PROMPT = "Write a long story about a lighthouse."
TOKENS = 128
TURNS = 7


class Engine:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, inputs: list[dict[str, Any]]) -> float:
        """Tokens per second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(inputs) + "\n")
        self._process.stdin.flush()
        tokens, seconds = json.loads(self._process.stdout.readline())
        return float(tokens / seconds)


@contextmanager
def _engine(cache: Path) -> Iterator[Engine]:
    argv = [sys.executable, str(HERE / "engine.py"), str(EXAMPLE), str(cache)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("the engine does not load")
            yield Engine(process)
        finally:
            process.terminate()


def _through_the_server(stack: Stack, model: str, inputs: list[dict[str, Any]]) -> float:
    """Tokens per second, from the first request until the last stream has ended."""

    async def follow(one: dict[str, Any]) -> str:
        body = orjson.dumps({"model_id": model, "input": one})
        made = orjson.loads(await _request(stack, "POST /v1/predictions", body))
        path = urlsplit(made["urls"]["stream"]).path
        stream = await _request(stack, f"GET {path}")
        if b"event: done" not in stream or b"event: error" in stream:
            raise SystemExit(f"the stream of {made['id']} did not end well")
        return str(made["id"])

    async def follow_all() -> list[str]:
        return await asyncio.gather(*map(follow, inputs))

    start = time.monotonic()
    ids = asyncio.run(follow_all())
    seconds = time.monotonic() - start
    stack.wait_until_done(model)
    count = "SELECT sum((metrics->>'output_token_count')::int) FROM predictions"
    return float(stack.sql(f"{count} WHERE id = ANY (%s::uuid[])", ids)[0][0]) / seconds


async def _request(stack: Stack, what: str, body: bytes = b"") -> bytes:
    """The body of the reply, by as little code as can be: the client runs on the same cores."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=1 << 24)
    headers = {**stack.headers, "Accept": "text/event-stream", "Content-Length": str(len(body))}
    lines = [f"{what} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    reply = await reader.read()
    writer.close()
    return reply.partition(b"\r\n\r\n")[2]


def measure(stack: Stack) -> None:
    report.title(f"text generation, SmolLM2-135M, {TOKENS} tokens each: tokens/s")
    spec = yaml.safe_load(EXAMPLE.read_text())["spec"]
    model = stack.apply("smollm2", **spec)
    stack.wait_until_ready(model)
    rows = []
    ratios = {}
    with _engine(stack.home.root / "cache") as engine:
        for connections in CONNECTIONS:
            inputs = [{"prompt": PROMPT, "max_new_tokens": TOKENS}] * connections
            engine.ask(inputs)
            _through_the_server(stack, model, inputs)
            alone, through = [], []
            for _ in range(TURNS):
                alone.append(engine.ask(inputs))
                through.append(_through_the_server(stack, model, inputs))
            ratios[connections] = report.ratio(through, alone)
            middles = report.middle(alone), report.middle(through)
            cells = (*(f"{middle:.1f}" for middle in middles), f"{ratios[connections]:.3f}")
            rows.append((f"c={connections}", *cells))
    report.table(("", "in process", "streamed", "ratio"), rows)
    for connections, ratio in ratios.items():
        report.target(f"streamed, of in process, c = {connections}", ratio, 0.95, at_least=True)
