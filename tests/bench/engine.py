"""The text engine in a process of its own, without anything around it.

`python engine.py DOCUMENT CACHE`: prints `ready`; then, for each line of standard input (a JSON
array of inputs), the tokens that came out and the seconds it took, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from inference_contract.inferencemodel import InferenceModelSpec
from inference_runner.engines import registry
from inference_runner.engines.base import EngineOptions, Request, StepEngine
from inference_runner.sources import locate


def run(engine: StepEngine, inputs: list[dict[str, Any]]) -> tuple[float, float]:
    """Tokens and seconds of these requests, taken in together."""
    start = time.monotonic()
    for number, one in enumerate(inputs):
        engine.add(Request(str(number), one))
    tokens, active = 0.0, len(inputs)
    while active:
        for delta in engine.step():
            if delta.error is not None:
                raise delta.error
            if delta.done:
                tokens += delta.metrics["output_token_count"]
                active -= 1
    return tokens, time.monotonic() - start


def main() -> None:
    spec = InferenceModelSpec(**yaml.safe_load(Path(sys.argv[1]).read_text())["spec"])
    path = locate.fetch(spec.source, Path(sys.argv[2]))
    size = spec.batching.max_batch_size
    engine = registry.create(spec.type, EngineOptions(path=path, max_batch_size=size))
    assert isinstance(engine, StepEngine)
    engine.load()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(engine, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
