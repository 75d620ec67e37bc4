"""Text generation against transformers' own generate, with tiny random models and tokenizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from inference_contract.modeltype import ModelType
from inference_runner.engines import registry
from inference_runner.engines.base import EngineOptions, InputError, Request
from inference_runner.engines.text_generation import sampling
from inference_runner.engines.text_generation.decoders import Work
from inference_runner.engines.text_generation.detokenizer import Detokenizer
from inference_runner.engines.text_generation.options import default_seed
from inference_runner.engines.text_generation.requests import RequestReader
from inference_runner.engines.text_generation.sampling import Sampler

NEW_TOKENS = 12


def load(folder: Path, **more: Any) -> Any:
    options = EngineOptions(path=folder, max_batch_size=16, **more)
    engine = registry.create(ModelType.TEXT_GENERATION, options)
    engine.load()
    return engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_models.text_generator(folder, max_position_embeddings=600)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return load(folder)


@pytest.fixture
def engine(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield loaded
    for number in range(16):
        loaded.remove(str(number))


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


def test_a_token_that_only_the_tokenizer_has_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'extra': a token that the model itself does not have"):
        load(tmp_path).predict({"prompt": "good extra"})


CHAT = (
    "{% for m in messages %}{{ '<|' + m.role + '|> ' + m.content + ' <|done|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


class Scripted:
    """The words that the model says, whatever it is asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        script = iter(tokenizer.convert_tokens_to_ids(said))

        def choose(logits: torch.Tensor, rows: Sequence[Sampler]) -> list[int]:
            (token,) = [next(script) for _ in rows]
            rows[0].accept(token)
            return [token]

        monkeypatch.setattr(sampling, "choose", choose)


def chat(folder: Path, template: str | None, **more: Any) -> Any:
    tiny_models.text_generator(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for name in ("w1", "w2", "w3"):
        assert name in tokenizer.get_vocab()
    specials = ["<|user|>", "<|assistant|>", "<|done|>", "<|tool|>"]
    tokenizer.add_tokens([AddedToken(name, special=True) for name in specials])
    tokenizer.chat_template = template
    for key, value in more.items():
        setattr(tokenizer, key, value)
    tokenizer.save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return load(folder)


def reader(folder: Path) -> RequestReader:
    return RequestReader(
        transformers.AutoModelForCausalLM.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


def test_the_end_of_a_turn_that_only_the_chat_template_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = chat(tmp_path, CHAT)
    Scripted(tmp_path, monkeypatch, ["good", "day", "<|done|>", "bad"])
    assert engine.predict({"prompt": "red"}) == " good day"


def test_the_end_that_only_the_tokenizer_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = chat(tmp_path, None, eos_token="w3")
    Scripted(tmp_path, monkeypatch, ["good", "w3", "bad"])
    assert engine.predict({"prompt": "red"}).strip() == "good"


def test_two_ends_of_the_generation_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.text_generator(tmp_path)
    transformers.GenerationConfig(eos_token_id=[5, 6]).save_pretrained(tmp_path)
    engine = load(tmp_path)
    for end in tiny_models.WORDS[5:7]:
        Scripted(tmp_path, monkeypatch, ["good", end, "w9"])
        assert engine.predict({"prompt": "red"}).strip() == "good"


def test_a_chat_template_that_refuses_an_answer_has_no_end(tmp_path: Path) -> None:
    chat(
        tmp_path,
        "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
        "<|user|> {{ messages[0].content }} <|assistant|>",
    )
    assert reader(tmp_path).vocabulary.ends == frozenset()


def test_a_conversation_reaches_the_model_as_its_template_writes_it(tmp_path: Path) -> None:
    chat(tmp_path, CHAT)
    conversation = [
        {"role": "user", "content": "red sea"},
        {"role": "assistant", "content": [{"type": "text", "text": "bad"}]},
        {"role": "user", "content": "tree"},
    ]
    (text,) = reader(tmp_path).read(Request("a", {"messages": conversation}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert " ".join(tokenizer.convert_ids_to_tokens(text.prompt)) == (
        "<|user|> red sea <|done|> <|assistant|> bad <|done|> <|user|> tree <|done|> <|assistant|>"
    )


TOOL_CHAT = CHAT.replace(
    "{% if add", "{% if tools %}{{ tools[0].function.name }}{% endif %}{% if add"
)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def deltas_of(engine: Any, inputs: dict[str, Any]) -> list[Any]:
    engine.add(Request("p1", inputs))
    deltas = list(engine.step())
    while not deltas[-1].done:
        deltas += engine.step()
    return deltas


def test_a_tool_call_is_told_from_special_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer_says = {"response_template": CALLS_BY_TAGS}
    engine = chat(tmp_path, TOOL_CHAT, **tokenizer_says)
    said = ["good", "<|tool|>", "day", "<|user|>", "bad", "<|done|>", "sea"]
    Scripted(tmp_path, monkeypatch, said)
    deltas = deltas_of(engine, {"prompt": "red", "tools": TOOLS})
    call = {
        "id": "call_p1_0",
        "type": "function",
        "function": {"name": "day", "arguments": "{}"},
    }
    whole = deltas[-1].whole
    assert whole["choices"][0]["finish_reason"] == deltas[-1].metrics["finish_reason"]
    assert whole == {
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "good bad",
                    "tool_calls": [call],
                },
                "finish_reason": "tool_calls",
            }
        ]
    }
    pieces = [delta.output["choices"][0]["delta"] for delta in deltas if delta.output]
    assert {"tool_calls": [{"index": 0, **call}]} in pieces
    assert "".join(piece.get("content", "") for piece in pieces) == "good bad"


CALLS_BY_TAGS = {
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<\|tool\|>",
            "close": "<|user|>",
            "repeats": True,
            "transform": {"function": {"name": "{content}"}},
        },
        "content": {},
    },
}


def test_tools_need_a_template_that_has_them(tmp_path: Path) -> None:
    engine = chat(tmp_path, CHAT)
    with pytest.raises(InputError, match="this model's chat template has no tools"):
        engine.predict({"prompt": "red", "tools": TOOLS})


def test_logprobs_make_the_output_an_object(engine: Any, folder: Path) -> None:
    inputs = {"prompt": "good day", "max_new_tokens": 3, "logprobs": 2}
    deltas = deltas_of(engine, inputs)
    (choice,) = deltas[-1].whole["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": reference(folder, "good day", 3),
    }
    assert choice["finish_reason"] == "length"
    tokens = choice["logprobs"]["content"]
    assert len(tokens) == 3
    for token in tokens:
        best = token["top_logprobs"][0]
        assert (token["token"], token["id"], token["logprob"]) == (
            best["token"],
            best["id"],
            best["logprob"],
        )
        assert len(token["top_logprobs"]) == 2
    told = [delta.output["choices"][0]["logprobs"]["content"] for delta in deltas]
    assert [one for some in told for one in some] == tokens
    assert engine.predict(inputs) == deltas[-1].whole


def test_several_texts_are_those_of_seeds_in_a_row(engine: Any) -> None:
    inputs = {"prompt": "good day", "max_new_tokens": 5, "temperature": 1.5, "seed": 2**64 - 2}
    alone = [engine.predict({**inputs, "seed": seed}) for seed in (2**64 - 2, 2**64 - 1, 0)]
    deltas = deltas_of(engine, {**inputs, "n": 3})
    choices = deltas[-1].whole["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in choices] == alone
    assert len(set(alone)) == 3
    assert [delta.done for delta in deltas] == [False] * 14 + [True]
    assert deltas[-1].metrics["output_token_count"] == 15
    pieces = [delta.output["choices"][0] for delta in deltas]
    for choice in choices:
        mine = [one["delta"]["content"] for one in pieces if one["index"] == choice["index"]]
        assert "".join(mine) == choice["message"]["content"]


def test_an_error_of_one_text_ends_those_of_its_request(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add(Request("several", {"prompt": "good day", "max_new_tokens": 9, "n": 3}))
    engine.add(Request("other", {"prompt": "good day", "max_new_tokens": 3}))
    choose, error = sampling.choose, RuntimeError("of one text")

    def broken(logits: torch.Tensor, rows: Any) -> Any:
        return [
            error if row.options.seed == bad else one
            for row, one in zip(rows, choose(logits, rows), strict=True)
        ]

    bad = default_seed("several") + 1
    monkeypatch.setattr(sampling, "choose", broken)
    deltas = []
    for _ in range(20):  # More than all its texts would take.
        deltas += engine.step()
    assert [delta.error for delta in deltas if delta.id == "several" and delta.done] == [error]
    said = "".join(delta.output or "" for delta in deltas if delta.id == "other")
    assert said == reference(folder, "good day", 3)


def test_what_the_chat_template_refuses_is_told(tmp_path: Path) -> None:
    engine = chat(
        tmp_path,
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }}{% endfor %}",
    )
    assert engine.predict({"prompt": "red", "max_new_tokens": 1})
    with pytest.raises(InputError, match=r"^the model's chat template refuses this: no system$"):
        engine.predict({"prompt": "red", "system_prompt": "good"})


@pytest.mark.parametrize(
    ("inputs", "reason", "tokens"),
    [
        ({"max_new_tokens": 2}, "length", 2),
        ({"max_new_tokens": 4}, "stop", 4),
        ({}, "stop", 4),
        ({"stop": ["day"]}, "stop", 2),
        ({"stop": ["day bad"]}, "stop", 3),
        ({"max_new_tokens": 6, "ignore_eos": True}, "length", 6),
    ],
)
def test_it_is_told_why_a_text_ended_and_of_how_many_tokens_it_is(
    inputs: dict[str, Any],
    reason: str,
    tokens: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = chat(tmp_path, CHAT)
    Scripted(tmp_path, monkeypatch, ["good", "day", "bad", "<|done|>", "sea", "red"])
    engine.add(Request("a", {"prompt": "red", **inputs}))
    deltas = [engine.step()[0]]
    while not deltas[-1].done:
        deltas += engine.step()
    metrics = deltas[-1].metrics
    assert (metrics["finish_reason"], metrics["output_token_count"]) == (reason, tokens)
    assert metrics["input_token_count"] == 4
    assert not any(delta.metrics for delta in deltas[:-1])


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("<|tool|>", " good day"),
        ("day<|tool|>", " good "),
        ("<|tool|> bad", " good day"),
        ("<|tool|>x", " good day bad sea"),
        ("day bad", " good day bad sea"),
        ("bad s", " good day "),
    ],
)
def test_stop_strings_meet_special_tokens_and_span_tokens(
    stop: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = chat(tmp_path, None)
    said = ["good", "day", "<|tool|>", "bad", "sea"]
    Scripted(tmp_path, monkeypatch, said)
    inputs = {"prompt": "red", "stop": [stop], "max_new_tokens": len(said)}
    assert engine.predict(inputs) == expected


def sentencepiece() -> Any:
    """As Llama 2 has it: spaces in tokens, bytes for what is no word, the first space dropped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁Hello", "▁world", "▁", "!", "ly", *"Helowrdy"]
    inner = Tokenizer(
        models.BPE({p: n for n, p in enumerate(dict.fromkeys(pieces))}, [], byte_fallback=True)
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def spoken(tokenizer: Any, prompt: list[str], said: list[str]) -> list[str]:
    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    to_ids = tokenizer.convert_tokens_to_ids
    text = Detokenizer(decode, (), {}, to_ids(prompt))
    return [*(text.add(token) for token in to_ids(said)), text.finish()]


@pytest.mark.parametrize(
    ("prompt", "said", "expected"),
    [
        (["▁Hello"], ["▁world", "!"], [" world", "!", ""]),
        (["▁Hello"], ["ly"], ["ly", ""]),
        ([], ["▁Hello", "▁world"], ["Hello", " world", ""]),
        (["▁Hello"], ["▁", "<0xE2>", "<0x82>", "<0xAC>"], [" ", "", "", "€", ""]),
        (["▁", *["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"] * 9], ["!"], ["!", ""]),
        (
            ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"] * 9,
            ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"],
            ["", "", "", "😀", ""],
        ),
    ],
)
def test_pieces_of_sentencepiece(prompt: list[str], said: list[str], expected: list[str]) -> None:
    assert spoken(sentencepiece(), prompt, said) == expected


def test_scores_that_are_no_numbers_do_not_load(tmp_path: Path) -> None:
    tiny_models.text_generator(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    model.save_pretrained(tmp_path)
    with pytest.raises(FloatingPointError):
        load(tmp_path)
