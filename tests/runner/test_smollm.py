"""Text generation with a real model, SmolLM2-135M-Instruct."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import transformers

from inference_contract.modeltype import ModelType
from inference_runner.engines import registry
from inference_runner.engines.base import EngineOptions, InputError, Request

PROMPTS = [
    "What is the capital of France?",
    "Name three colours, separated by commas.",
    "Write one long sentence about the sea and the people who live beside it.",
]
NEW_TOKENS = 16


@pytest.fixture(scope="module")
def engine(smollm: Path) -> Any:
    options = EngineOptions(path=smollm, dtype="float32", max_batch_size=4)
    model = registry.create(ModelType.TEXT_GENERATION, options)
    model.load()
    return model


@pytest.fixture
def idle(engine: Any) -> Iterator[Any]:
    yield engine
    for name in PROMPTS:
        engine.remove(name)


@pytest.fixture(scope="module")
def model(smollm: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(smollm: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(smollm)


def reference(model: Any, tokenizer: Any, prompt: str) -> str:
    """What transformers' own generate says."""
    turn = [{"role": "user", "content": prompt}]
    encoded = tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        ids = model.generate(**encoded, max_new_tokens=NEW_TOKENS, do_sample=False)
    return str(
        tokenizer.decode(
            ids[0, encoded["input_ids"].shape[1] :],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
    )


def drive(engine: Any, joins: dict[int, list[Request]]) -> dict[str, str]:
    """The texts of these requests, which join before the steps of these numbers."""
    texts: dict[str, str] = {}
    active, number = 0, 0
    while active or joins:
        for request in joins.pop(number, []):
            engine.add(request)
            texts[request.id] = ""
            active += 1
        for delta in engine.step() if active else ():
            assert delta.error is None
            texts[delta.id] += delta.output or ""
            active -= delta.done
        number += 1
    return texts


def test_greedy_equals_generate_together_and_joining(idle: Any, model: Any, tokenizer: Any) -> None:
    expected = {prompt: reference(model, tokenizer, prompt) for prompt in PROMPTS}
    requests = [Request(p, {"prompt": p, "max_new_tokens": NEW_TOKENS}) for p in PROMPTS]
    assert drive(idle, {0: list(requests)}) == expected
    assert drive(idle, {n * 3: [request] for n, request in enumerate(requests)}) == expected


def test_the_rest_goes_on_when_some_are_removed(idle: Any) -> None:
    requests = [Request(p, {"prompt": p, "max_new_tokens": NEW_TOKENS}) for p in PROMPTS]
    expected = drive(idle, {0: requests[:1]})[PROMPTS[0]]
    for request in requests:
        idle.add(request)
    text, done = "", False
    for number in range(2 * NEW_TOKENS):
        for delta in idle.step() if not done else ():
            if delta.id == PROMPTS[0]:
                text, done = text + (delta.output or ""), delta.done
        if number < 2:
            idle.remove(PROMPTS[2 - number])
    assert text == expected


def test_sampling_repeats_under_the_same_seed(idle: Any) -> None:
    inputs = {"prompt": "Tell me a story.", "max_new_tokens": 8, "temperature": 1.5, "top_p": 0.95}
    said = [drive(idle, {0: [Request(name, inputs)]})[name] for name in ("a", "a", "b")]
    assert said[0] == said[1] != said[2]
    inputs |= {"seed": 7, "top_k": 50}
    seeded = [drive(idle, {0: [Request(name, inputs)]})[name] for name in ("a", "b")]
    assert seeded[0] == seeded[1]


def test_a_stop_string_ends_the_text(idle: Any) -> None:
    full = idle.predict({"prompt": PROMPTS[0], "max_new_tokens": NEW_TOKENS})
    assert " of " in full
    cut = idle.predict({"prompt": PROMPTS[0], "max_new_tokens": NEW_TOKENS, "stop": [" of "]})
    assert cut == full.partition(" of ")[0]


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


def test_a_schema_is_kept_beside_texts_that_are_free(idle: Any, model: Any, tokenizer: Any) -> None:
    free = {"prompt": PROMPTS[0], "max_new_tokens": NEW_TOKENS}
    wanted = {"type": "json_schema", "json_schema": {"schema": CITY}}
    bound = {"prompt": PROMPTS[0], "max_new_tokens": 200, "response_format": wanted}
    said = drive(idle, {0: [Request("free", free)], 2: [Request("bound", bound)]})
    assert said["free"] == reference(model, tokenizer, PROMPTS[0])
    jsonschema.validate(json.loads(said["bound"]), CITY)


def test_a_conversation_is_gone_on_with(idle: Any) -> None:
    turns = [
        {"role": "user", "content": "My name is Clementine."},
        {"role": "assistant", "content": "Nice to meet you, Clementine."},
        {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
    ]
    assert "Clementine" in idle.predict({"messages": turns, "max_new_tokens": NEW_TOKENS})


def test_a_prompt_that_is_too_long_is_refused(idle: Any) -> None:
    with pytest.raises(InputError, match=r"leaves no room: .* may have 8192"):
        idle.add(Request("a", {"prompt": "word " * 9000}))


@pytest.fixture
def process(runner: Callable[..., Any], smollm: Path, wait_until: Callable[..., Any]) -> Any:
    document = {"type": "text-generation", "source": {"path": str(smollm)}}
    started = runner(document)
    wait_until(started.is_ready, timeout=60)
    return started


def test_text_streams_through_a_runner(
    process: Any, queue: Any, wait_until: Callable[..., Any]
) -> None:
    queue.put(*(queue.job(f"p{n}", prompt=p, max_new_tokens=24) for n, p in enumerate(PROMPTS)))
    for n in range(len(PROMPTS)):
        end = wait_until(lambda n=n: queue.end(f"p{n}"), timeout=60)
        entries = queue.stream(f"p{n}")
        assert (end["type"], end["streamed"], entries[-1]) == (
            "succeeded",
            True,
            {"type": "succeeded"},
        )
        assert "".join(entry["output"] for entry in entries[:-1]) == end["output"]
        assert len(entries) > 3
        assert end["metrics"]["output_token_count"] <= 24
    assert "Paris" in queue.end("p0")["output"]
    queue.put_one("long", prompt="Count from one to one thousand.", max_new_tokens=2000)
    wait_until(lambda: queue.stream("long"))
    queue.cancel("long")
    end = wait_until(lambda: queue.end("long"), timeout=60)
    assert end["type"] == "canceled"
    assert end["output"]
