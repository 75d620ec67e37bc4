"""Requests of text generation: chat templates, tools, ends, several texts, log probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from text_engine import load, reference
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from inference_runner.engines.base import InputError, Request
from inference_runner.engines.text_generation import sampling
from inference_runner.engines.text_generation.detokenizer import Detokenizer
from inference_runner.engines.text_generation.options import default_seed
from inference_runner.engines.text_generation.requests import RequestReader
from inference_runner.engines.text_generation.sampling import Sampler


def test_a_token_that_only_the_tokenizer_has_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'extra': a token that the model itself does not have"):
        load(tmp_path).predict({"prompt": "good extra"})


def test_a_prompt_that_cannot_fit_is_not_tokenized(engine: Any, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    most = 600 * max(map(len, tokenizer.get_vocab()))
    message = f"^the prompt has {most + 1} characters, more than 600 tokens can have"
    with pytest.raises(InputError, match=message):
        engine.add(Request("0", {"prompt": "a" * (most + 1)}))
    with pytest.raises(InputError, match=r"^the prompt has [0-9]+ tokens and leaves no room"):
        engine.add(Request("0", {"prompt": ("w1 " * most)[:most]}))


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
