"""Text generation: streamed through the whole server, and by the engine in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

import report
from stack import Stack

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "crds" / "examples" / "smollm2.yaml"
CONNECTIONS = (1, 8)
PROMPT = "Write a long story about a lighthouse."
TOKENS = 128


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

    def follow(one: dict[str, Any]) -> str:
        body = {"model_id": model, "input": one}
        made = client.post(f"{stack.url}/v1/predictions", json=body).raise_for_status().json()
        accept = {"Accept": "text/event-stream"}
        with client.stream("GET", made["urls"]["stream"], headers=accept) as reply:
            last = [line for line in reply.iter_lines() if line.startswith("event:")][-1]
        if last != "event: done":
            raise SystemExit(f"a stream ended with {last}")
        return str(made["id"])

    # Made before the clock starts: a client reads the machine's certificates, for 100 ms.
    client = httpx.Client(headers=stack.headers, timeout=120)
    with client, ThreadPoolExecutor(len(inputs)) as pool:
        start = time.monotonic()
        ids = list(pool.map(follow, inputs))
        seconds = time.monotonic() - start
    stack.wait_until_done(model)
    count = "SELECT sum((metrics->>'output_token_count')::int) FROM predictions"
    return float(stack.sql(f"{count} WHERE id = ANY (%s::uuid[])", ids)[0][0]) / seconds


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
            for _ in range(report.ROUNDS):
                alone.append(engine.ask(inputs))
                through.append(_through_the_server(stack, model, inputs))
            middles = report.middle(alone), report.middle(through)
            ratios[connections] = middles[1] / middles[0]
            cells = (f"{middles[0]:.1f}", f"{middles[1]:.1f}", f"{ratios[connections]:.3f}")
            rows.append((f"c={connections}", *cells))
    report.table(("", "in process", "streamed", "ratio"), rows)
    for connections, ratio in ratios.items():
        report.target(f"streamed, of in process, c = {connections}", ratio, 0.95, at_least=True)
