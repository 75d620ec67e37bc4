"""Text generation's engine in tests: loaded, asked for several texts at once, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from inference_contract.modeltype import ModelType
from inference_runner.engines import registry
from inference_runner.engines.base import EngineOptions, Request

NEW_TOKENS = 12


def load(folder: Path, **more: Any) -> Any:
    options = EngineOptions(path=folder, max_batch_size=16, **more)
    engine = registry.create(ModelType.TEXT_GENERATION, options)
    engine.load()
    return engine


def reference(folder: Path, prompt: str, new_tokens: int = NEW_TOKENS) -> str:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        found = model.generate(ids, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    before, now = (tokenizer.decode(one[0], skip_special_tokens=True) for one in (ids, found))
    return str(now[len(before) :])


def together(engine: Any, inputs: Sequence[dict[str, Any]]) -> list[Any]:
    """Texts, and exceptions, of requests that are taken in at once; every step is bounded."""
    for number, one in enumerate(inputs):
        engine.add(Request(str(number), one))
    said: list[Any] = [""] * len(inputs)
    active = len(inputs)
    while active:
        for delta in engine.step():
            at = int(delta.id)
            said[at] = delta.error or said[at] + (
                delta.output if isinstance(delta.output, str) else ""
            )
            active -= delta.done
    return said


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{(first + 7 * n) % 400}" for n in range(count))
