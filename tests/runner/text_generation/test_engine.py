"""Text generation against transformers' own generate, with tiny random models and tokenizers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from text_engine import NEW_TOKENS, load, reference, together, words

from inference_runner.engines.base import InputError, Request
from inference_runner.engines.text_generation import sampling
from inference_runner.engines.text_generation.decoders import Work


def test_long_and_short_prompts_say_what_each_says_alone(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.pace, "most", 64)
    prompts = [words(500), *(words(length, length) for length in (3, 4, 5, 9, 30, 31, 64, 65))]
    inputs = [{"prompt": prompt, "max_new_tokens": NEW_TOKENS} for prompt in prompts]
    assert together(engine, inputs) == [reference(folder, prompt) for prompt in prompts]


def test_no_forward_is_larger_than_its_budget(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.pace, "most", 64)
    sizes, run = [], engine.decoder.run

    def noted(work: Work) -> Any:
        sizes.append(work.prompt_tokens)
        return run(work)

    monkeypatch.setattr(engine.decoder, "run", noted)
    prompts = [words(500, 1), *[words(9, 20 + n) for n in range(15)]]
    together(engine, [{"prompt": prompt, "max_new_tokens": 2} for prompt in prompts])
    assert max(sizes) <= 64
    assert sum(sizes) == 500 + 15 * 9


def test_a_long_prompt_holds_nobody_up(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.pace, "most", 64)
    engine.add(Request("long", {"prompt": words(590, 3), "max_new_tokens": 2}))
    for number in range(15):
        engine.add(Request(f"{number}", {"prompt": words(3, number), "max_new_tokens": 2}))
    done: list[str] = []
    while len(done) < 16:
        done += [delta.id for delta in engine.step() if delta.done]
        if len(done) == 15:
            (long,) = engine.decoder.rows()
            assert long.missing > 300
            engine.remove("long")
            break
    assert "long" not in done


def test_positions_end_the_text(engine: Any, folder: Path) -> None:
    prompt = words(597)
    assert engine.predict({"prompt": prompt, "max_new_tokens": 99}) == reference(folder, prompt, 3)
    with pytest.raises(InputError, match="leaves no room"):
        engine.predict({"prompt": words(600)})


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1e-39},
        {"temperature": 1e-300},
        {"temperature": 1e-5, "top_p": 0},
        {"temperature": 2, "top_p": 0},
        {"temperature": 1, "top_k": 1},
    ],
)
def test_what_leaves_one_token_is_greedy(engine: Any, folder: Path, options: Any) -> None:
    inputs = {"prompt": "good day", "max_new_tokens": NEW_TOKENS, **options}
    assert together(engine, [inputs] * 8) == [reference(folder, "good day")] * 8


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2, "top_k": 0},
        {"temperature": 1.0, "top_k": 10**9},
        {"temperature": 1e9},
        {"temperature": 1, "seed": -1},
        {"temperature": 1, "seed": 2**63},
        {"temperature": 1, "seed": 2**64},
        {"temperature": 1, "seed": -(10**30)},
        {"temperature": 1, "seed": 1e30},
        {"temperature": 1, "top_p": 1e-45},
        {"temperature": None, "top_p": None, "top_k": None, "seed": None, "stop": None},
        {"max_new_tokens": 3.0},
        {"max_new_tokens": None},
    ],
)
def test_odd_values_work(engine: Any, options: Any) -> None:
    assert engine.predict({"prompt": "good day", "max_new_tokens": 3, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be at least 0, not -1"),
        ({"temperature": math.inf}, "temperature must be finite"),
        ({"temperature": math.nan}, "temperature must be finite"),
        ({"temperature": True}, "temperature must be a number"),
        ({"top_p": 1.5}, "top_p must be from 0 to 1"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_k": 2.5}, "top_k must be an integer"),
        ({"seed": math.inf}, "seed must be finite"),
        ({"seed": "7"}, "seed must be a number"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"prompt": None}, "prompt must be a string"),
        ({"prompt": ""}, "prompt is empty"),
    ],
)
def test_what_no_model_takes_is_refused(engine: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.add(Request("a", {"prompt": "good", **options}))
    assert not engine.step()


def test_nan_of_one_row_ends_no_other(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = sampling.choose
    calls = 0

    def broken(logits: torch.Tensor, rows: Any) -> Any:
        nonlocal calls
        calls += 1
        logits = logits.clone()
        names = {row.text.sampler: row.text.id for row in engine.decoder.rows()}
        at = {names[sampler]: place for place, sampler in enumerate(rows)}
        if calls == 2:
            assert len(rows) == 6
            logits[at["1"]], logits[at["2"], 5], logits[at["3"]] = math.nan, math.nan, -math.inf
        return choose(logits, rows)

    monkeypatch.setattr(sampling, "choose", broken)
    warm = {"prompt": "good day", "max_new_tokens": NEW_TOKENS, "temperature": 1, "seed": 3}
    cold = {**warm, "temperature": 0}
    said = together(engine, [cold, cold, warm, cold, warm, cold])
    expected = reference(folder, "good day")
    assert (said[0], said[5]) == (expected, expected)
    assert isinstance(said[4], str)
    for error in said[1:4]:
        assert isinstance(error, FloatingPointError)
        assert str(error) == sampling.NO_NUMBERS


def test_an_error_of_one_prompt_is_no_matter_of_the_others(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine.decoder.run

    def broken(work: Work) -> Any:
        if any(7 in row.prompt for row in work.rows):  # "sea"
            raise RuntimeError("out of memory")
        return run(work)

    monkeypatch.setattr(engine.decoder, "run", broken)
    prompts = ["good day", "sea day", "bad day"]
    said = together(engine, [{"prompt": p, "max_new_tokens": 2} for p in prompts])
    assert [said[0], said[2]] == [reference(folder, p, 2) for p in ("good day", "bad day")]
    assert isinstance(said[1], RuntimeError)


def test_a_step_that_is_too_large_for_the_memory_is_done_in_parts(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine.decoder.run
    failed = 0

    def tight(work: Work) -> Any:
        nonlocal failed
        if len(work.writing) > 2 or work.prompt_tokens > 20:
            failed += 1
            raise torch.OutOfMemoryError("out of memory")
        return run(work)

    monkeypatch.setattr(engine.decoder, "run", tight)
    prompts = [words(70, 4), words(9, 5), words(9, 6), words(12, 7)]
    said = together(engine, [{"prompt": p, "max_new_tokens": NEW_TOKENS} for p in prompts])
    assert said == [reference(folder, p) for p in prompts]
    assert failed


def test_scores_that_are_no_numbers_do_not_load(tmp_path: Path) -> None:
    tiny_models.text_generator(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    model.save_pretrained(tmp_path)
    with pytest.raises(FloatingPointError):
        load(tmp_path)
