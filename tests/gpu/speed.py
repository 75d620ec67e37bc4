"""Load time, memory and speed of models of a common shape, with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiny_models
import torch
import transformers
from results import load, together

from inference_contract.modeltype import ModelType

BILLION = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""Llama 3.2 1B."""
BERT = {"dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12, "vocab_size": 30_000}
"""DistilBERT."""
PROMPT_TOKENS = 64


def rows(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    yield from _text(folder / "text", cuda)
    yield from _classes(folder / "classes", cuda)


def _seconds(do: Any, *args: Any) -> float:
    start = time.monotonic()
    do(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - start


def _peak(device: str) -> str:
    """GiB since the last call."""
    if device == "cpu":
        return "-"
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"{peak:.2f} GiB at most"


def _prompt(tokens: int, number: int = 0) -> str:
    return " ".join(f"w{(number * 31 + n * 7) % 400}" for n in range(tokens))


def _text(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    device, shape = ("cuda", BILLION) if cuda else ("cpu", {"max_position_embeddings": 4096})
    counts, new = ([1, 8, 32, 128], 128) if cuda else ([1, 8], 16)
    tiny_models.text_generator(folder, device, torch.bfloat16, **shape)
    _peak(device)
    start = time.monotonic()
    engine = load(ModelType.TEXT_GENERATION, folder, device, max_batch_size=max(counts))
    seconds = time.monotonic() - start
    yield "text-generation, load and trial run", f"{seconds:.1f} s, {_peak(device)}", True
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for count in counts:
        prompts = [_prompt(PROMPT_TOKENS, number) for number in range(count)]
        inputs = [{"prompt": prompt, "max_new_tokens": new} for prompt in prompts]
        together(engine, inputs[:2])
        _peak(device)
        ours = count * new / _seconds(together, engine, inputs)
        our_peak = _peak(device)
        ids = tokenizer(prompts, return_tensors="pt").input_ids.to(device)
        asked = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            static = count * new / _seconds(lambda: engine._model.generate(ids, **asked))  # noqa: B023
        seen = f"{ours:.0f} tokens/s, {our_peak}; generate {static:.0f}, {_peak(device)}"
        yield f"text-generation, c = {count}", f"{seen}; {ours / static:.2f} of it", True
    yield from _long(engine, device)


def _long(engine: Any, device: str) -> Iterator[tuple[str, str, bool]]:
    """One long prompt among short ones."""
    short = [{"prompt": _prompt(20, n), "max_new_tokens": 8} for n in range(15)]
    long = {"prompt": _prompt(3500), "max_new_tokens": 8}
    for what, inputs in {
        "1 prompt of 3,500 tokens": [long],
        "15 of 20": short,
        "all 16 at once": [long, *short],
    }.items():
        _peak(device)
        seconds = _seconds(together, engine, inputs)
        yield f"text-generation, {what}", f"{seconds * 1000:.0f} ms, {_peak(device)}", True


def _classes(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    device, shape = ("cuda", BERT) if cuda else ("cpu", {})
    tiny_models.classifier(folder, **{**shape, "max_position_embeddings": 512})
    _peak(device)
    start = time.monotonic()
    engine = load(ModelType.CLASSIFICATION, folder, device)
    yield "classification, load", f"{time.monotonic() - start:.1f} s, {_peak(device)}", True
    for size in (1, 16, 64):
        batch = [{"text": "good bad day sea " * 16}] * size
        engine.predict_batch(batch)
        _peak(device)
        rate = 10 * size / _seconds(lambda: [engine.predict_batch(batch) for _ in range(10)])  # noqa: B023
        yield f"classification, {size} texts of 64 tokens", f"{rate:.0f}/s, {_peak(device)}", True
