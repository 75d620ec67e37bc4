"""Greedy texts are those of transformers' generate, whoever joins and leaves meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers

from inference_contract.modeltype import ModelType
from inference_runner.engines import registry
from inference_runner.engines.base import EngineError, EngineOptions, Request
from inference_runner.engines.text_generation.decoders import LoneDecoder, SlotDecoder
from inference_runner.engines.text_generation.generic import GenericForward
from inference_runner.engines.text_generation.graphs import StepGraphs
from inference_runner.engines.text_generation.llama import LlamaForward

REQUESTS = 16
SIZE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 400,
    "bos_token_id": 2,
    "eos_token_id": None,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {
    "vocab_size": 300,
    "n_positions": 400,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
}
GPT2 |= {"bos_token_id": 2, "eos_token_id": None}

HAND_WRITTEN: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZE),
    "llama, biases, scaled rotations": lambda: transformers.LlamaConfig(
        **SIZE,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZE, head_dim=16),
    "mistral": lambda: transformers.MistralConfig(**SIZE, sliding_window=None),
}
GENERIC: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gemma": lambda: transformers.GemmaConfig(**SIZE, head_dim=16),
    "phi": lambda: transformers.PhiConfig(**SIZE),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**SIZE),  # has no groups of heads
    "granite": lambda: transformers.GraniteConfig(**SIZE, attention_multiplier=0.2),
    "olmo2": lambda: transformers.Olmo2Config(**SIZE),
    "mixtral": lambda: transformers.MixtralConfig(**SIZE, num_local_experts=4),
    "starcoder2": lambda: transformers.Starcoder2Config(**SIZE, sliding_window=None),
}
ALONE: dict[str, Callable[[], Any]] = {
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4, eos_token_id=None
    ),
    "gemma2": lambda: transformers.Gemma2Config(**SIZE, head_dim=16, sliding_window=16),
    "mistral with a window": lambda: transformers.MistralConfig(**SIZE, sliding_window=16),
    "llama, dynamic rotations": lambda: transformers.LlamaConfig(
        **SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
}
EVERY = {**HAND_WRITTEN, **GENERIC, **ALONE}


def load(folder: Path, **more: Any) -> Any:
    options = EngineOptions(path=folder, **{"max_batch_size": 8, **more})
    engine = registry.create(ModelType.TEXT_GENERATION, options)
    engine.load()
    return engine


def prompts(dice: random.Random, longest: int) -> list[str]:
    """Of many lengths; some begin with the same words."""
    found = []
    for _ in range(REQUESTS):
        length, first = dice.choice([1, 3, 17, 40, longest]), dice.choice([0, 5, 11])
        found.append(" ".join(f"w{(first + 7 * n) % 250}" for n in range(length)))
    return found


def reference(folder: Path, asked: list[tuple[str, int]]) -> list[str]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    texts: list[str] = []
    for prompt, new in asked:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = model.generate(ids, max_new_tokens=new, do_sample=False, pad_token_id=0)
        before, now = (tokenizer.decode(one[0], skip_special_tokens=True) for one in (ids, found))
        texts.append(str(now[len(before) :]))
    return texts


def drive(engine: Any, asked: list[tuple[str, int]], dice: random.Random) -> list[str]:
    """Requests join at random between steps, no more at once than the engine takes."""
    texts, begun, active = [""] * len(asked), 0, 0
    while active or begun < len(asked):
        while begun < len(asked) and active < engine.slots and dice.random() < 0.5:
            prompt, new = asked[begun]
            engine.add(Request(str(begun), {"prompt": prompt, "max_new_tokens": new}))
            begun, active = begun + 1, active + 1
        for delta in engine.step() if active else ():
            assert delta.error is None
            texts[int(delta.id)] += delta.output or ""
            active -= delta.done
    return texts


@pytest.mark.parametrize("name", EVERY)
def test_greedy_texts_are_those_of_generate(name: str, tmp_path: Path) -> None:
    tiny_models.causal(tmp_path, EVERY[name]())
    engine = load(tmp_path)
    engine.pace.most = 24  # Prompts come in chunks.
    dice = random.Random(name)
    asked = [(prompt, dice.randint(1, 24)) for prompt in prompts(dice, 120)]
    assert drive(engine, asked, dice) == reference(tmp_path, asked)
    if name in ALONE:
        assert isinstance(engine.decoder, LoneDecoder)
    else:
        assert isinstance(engine.decoder, SlotDecoder)
        wanted = LlamaForward if name in HAND_WRITTEN else GenericForward
        assert isinstance(engine.decoder.forward, wanted)


def eagerly(compute: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """In the place of a CUDA graph: the same computation again, into the same tensor."""
    result = compute()

    def again() -> None:
        result.copy_(compute())

    return again, result


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_steps_of_padded_sizes_give_the_same(name: str, tmp_path: Path) -> None:
    tiny_models.causal(tmp_path, EVERY[name]())
    engine = load(tmp_path)
    decoder = engine.decoder
    graphs = StepGraphs(decoder.forward, decoder.cache, engine.slots, eagerly)
    decoder.graphs = graphs
    engine.pace.least = engine.pace.most = 150
    dice = random.Random(name)
    asked = [(prompt, dice.randint(1, 24)) for prompt in prompts(dice, 300)]
    assert drive(engine, asked, dice) == reference(tmp_path, asked)
    assert graphs.failure is None
    assert len({size.rows for size in graphs.sizes}) > 2
    assert len({size.length for size in graphs.sizes}) > 1
    assert len({size.chunk for size in graphs.sizes if size.rows}) > 1


def spoil(forward: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees one position less."""
    call = forward.__call__

    def wrong(self: Any, cache: Any, packed: Any) -> Any:
        positions = (packed.positions - 1).clamp(min=0)
        return call(self, cache, replace(packed, positions=positions))

    monkeypatch.setattr(forward, "__call__", wrong)


def test_a_forward_that_is_not_the_models_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.causal(tmp_path, EVERY["llama"]())
    spoil(LlamaForward, monkeypatch)
    assert isinstance(load(tmp_path).decoder.forward, GenericForward)
    spoil(GenericForward, monkeypatch)
    engine = load(tmp_path)
    assert isinstance(engine.decoder, LoneDecoder)
    assert (
        engine.predict({"prompt": "good", "max_new_tokens": 5})
        == reference(tmp_path, [("good", 5)])[0]
    )


def test_a_cache_that_is_full_makes_newcomers_wait(tmp_path: Path) -> None:
    tiny_models.causal(tmp_path, transformers.LlamaConfig(**{**SIZE, "head_dim": 128}))
    engine = load(tmp_path, parameters={"kv_cache_mib": 1})
    assert (engine.slots, engine.decoder.longest) == (1, 256)
    asked = [(prompt, 9) for prompt in prompts(random.Random(3), 120)]
    for number, (prompt, new) in enumerate(asked):
        engine.add(Request(str(number), {"prompt": prompt, "max_new_tokens": new}))
    texts, left = [""] * len(asked), len(asked)
    while left:
        for delta in engine.step():
            assert delta.error is None
            texts[int(delta.id)] += delta.output or ""
            left -= delta.done
    assert texts == reference(tmp_path, asked)


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
def test_a_cache_of_no_size_does_not_load(value: Any, tmp_path: Path) -> None:
    tiny_models.causal(tmp_path, EVERY["llama"]())
    with pytest.raises(EngineError, match="kv_cache_mib must be"):
        load(tmp_path, parameters={"kv_cache_mib": value})
