"""Load time, memory and speed of models of a common shape, with random weights."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tiny_models
import torch
import transformers
from results import decoder, last_lines, load, together

from inference_contract.modeltype import ModelType
from inference_runner.engines import pretrained
from inference_runner.engines.base import Request

Rows = Iterator[tuple[str, str, bool]]

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


EIGHT_BILLION = {
    **BILLION,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "tie_word_embeddings": False,
}
"""Llama 3.1 8B."""


def rows(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    started = time.monotonic()
    yield from _guarded("1B", lambda: _text(folder / "1B", cuda, BILLION, [1, 8, 32, 128]))
    yield from _guarded("classes", lambda: _classes(folder / "classes", cuda))
    if time.monotonic() - started < 150:
        yield from _guarded("8B", lambda: _text(folder / "8B", cuda, EIGHT_BILLION, [1, 32, 128]))


def _guarded(name: str, part: Callable[[], Rows]) -> Rows:
    try:
        yield from part()
    except Exception:
        yield name, last_lines(), False
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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


def _text(folder: Path, cuda: bool, shape: dict[str, Any], counts: list[int]) -> Rows:
    device = "cuda" if cuda else "cpu"
    new = 128 if cuda else 16
    if not cuda:
        shape, counts = {"max_position_embeddings": 4096}, [1, 8]
    model = _model(folder, device, shape)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [_prompt(PROMPT_TOKENS, number) for number in range(max(counts))]
    static: dict[int, float] = {}

    def generate(ids: torch.Tensor, most: int = new) -> None:
        model.generate(ids, max_new_tokens=most, do_sample=False, pad_token_id=0)

    for count in counts:
        _peak(device)
        ids = tokenizer(prompts[:count], return_tensors="pt").input_ids.to(device)
        with torch.inference_mode():
            generate(ids, 2)
            seconds = _seconds(generate, ids)
        static[count] = count * new / seconds
        yield (
            f"{folder.name}, generate, c = {count}",
            f"{static[count]:.0f} tokens/s, {_peak(device)}",
            True,
        )
    models, model = [model], None
    engine, seconds = _engine(folder, device, max(counts), models)
    gc.collect()
    seen = f"{seconds:.1f} s, {_peak(device)}; {decoder(engine)}"
    yield f"{folder.name}, from weights on the device to ready", seen, True
    for graphs in (True, False) if cuda else (False,):
        if not graphs:
            engine.decoder.graphs = None
        for count in counts:
            inputs = [{"prompt": prompt, "max_new_tokens": new} for prompt in prompts[:count]]
            together(engine, [{**one, "max_new_tokens": 4} for one in inputs])
            _peak(device)
            ours = count * new / _seconds(together, engine, inputs)
            seen = f"{ours:.0f} tokens/s, {ours / static[count]:.2f} of generate, {_peak(device)}"
            yield f"{folder.name}, c = {count}", f"{seen}; {decoder(engine)}", True
        yield from _newcomer(folder.name, engine)
        if shape is EIGHT_BILLION:
            return


def _model(folder: Path, device: str, shape: dict[str, Any]) -> Any:
    """Made where it runs: written to a disk and read again, a large one takes minutes."""
    words = tiny_models.vocabulary(shape.get("vocab_size", 500))
    config = transformers.LlamaConfig(
        **{
            **tiny_models.TINY_LLAMA,
            "bos_token_id": 2,
            "eos_token_id": None,
            "pad_token_id": 0,
            **shape,
            "vocab_size": len(words),
        }
    )
    config.save_pretrained(folder)
    longest = config.max_position_embeddings
    tiny_models.tokenizer(words, eos_token=None, model_max_length=longest).save_pretrained(folder)
    with torch.device(device):
        make: Any = transformers.AutoModelForCausalLM.from_config
        return make(config, dtype=torch.bfloat16).eval()


def _engine(folder: Path, device: str, slots: int, models: list[Any]) -> tuple[Any, float]:
    """The engine that takes the weights of this one model, which nobody else may hold, and the
    seconds that it took to be ready."""
    original = pretrained.load
    pretrained.load = lambda *_: models.pop()
    try:
        start = time.monotonic()
        engine = load(ModelType.TEXT_GENERATION, folder, device, max_batch_size=slots)
        return engine, time.monotonic() - start
    finally:
        pretrained.load = original


def _newcomer(model: str, engine: Any) -> Rows:
    """How long the steps of 8 streams take while a long prompt is read."""
    for number in range(8):
        inputs = {"prompt": _prompt(20, number), "max_new_tokens": 400}
        engine.add(Request(f"s{number}", inputs))
    for _ in range(8):
        engine.step()
    alone = sorted(_seconds(engine.step) for _ in range(40))
    engine.add(Request("long", {"prompt": _prompt(3500, 3), "max_new_tokens": 4}))
    steps: list[float] = []
    came = False
    while not came and len(steps) < 300:
        start = time.monotonic()
        came = any(delta.id == "long" for delta in engine.step())
        steps.append(time.monotonic() - start)
    for name in (*(f"s{number}" for number in range(8)), "long"):
        engine.remove(name)
    total, median = sum(steps), sorted(steps)[len(steps) // 2]
    seen = (
        f"a step {alone[20] * 1000:.1f} ms alone; with it {median * 1000:.1f}, at most "
        f"{max(steps) * 1000:.1f}; first token after {total * 1000:.0f} ms, {len(steps)} steps"
    )
    yield f"{model}, 3,500 tokens join 8 streams", f"{seen}; {decoder(engine)}", came


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
