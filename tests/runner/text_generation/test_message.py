"""Reasoning and tool calls, told from what is said, however the text comes in pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_runner.engines.text_generation.message import Message, parser

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
CALLED = {
    "id": "call_p1_0",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
}


def read(pieces: list[str], prompt: str = "", template: Any = None) -> tuple[Message, list[Any]]:
    message = Message("p1", parser(template, prompt, TOOLS))
    deltas = [message.add(piece) for piece in pieces]
    return message, [*deltas, message.add("", final=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello <b>you</b>", {"content": "Hello <b>you</b>"}),
        (CALL, {"content": None, "tool_calls": [CALLED]}),
        (f"Wait.\n{CALL}\n", {"content": "Wait.", "tool_calls": [CALLED]}),
        (
            f"{CALL}\n{CALL}",
            {"content": None, "tool_calls": [CALLED, {**CALLED, "id": "call_p1_1"}]},
        ),
        (
            f"<think>\nHm?\n</think>\n\nSo.{CALL}",
            {"reasoning": "Hm?", "content": "So.", "tool_calls": [CALLED]},
        ),
        ("<think>\nHm", {"reasoning": "Hm", "content": None}),
        ("<tool_call>no JSON</tool_call>", {"content": "no JSON"}),
        ('<tool_call>{"no": "name"}</tool_call>', {"content": '{"no": "name"}'}),
        ('<tool_call>{"name": "weath', {"content": '{"name": "weath'}),
        ("", {"content": None}),
    ],
)
def test_what_is_told_from_a_text(text: str, expected: dict[str, Any]) -> None:
    message, _ = read([text])
    assert message.all() == {"role": "assistant", **expected}
    assert message.has_tool_calls == ("tool_calls" in expected)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 140), max_size=8).map(sorted))
def test_pieces_bring_what_the_whole_has(cuts: list[int]) -> None:
    text = f"<think>\nHm, 1 < 2.\n</think>\n\nSo <b>.\n{CALL}\n{CALL}"
    ends = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
    message, deltas = read(pieces)
    whole = message.all()
    assert (whole["reasoning"], whole["content"]) == ("Hm, 1 < 2.", "So <b>.")
    for field in ("reasoning", "content"):
        assert "".join(delta.get(field, "") for delta in deltas) == whole[field]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert calls == [{"index": n, **call} for n, call in enumerate(whole["tool_calls"])]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Zürich"}] * 2


def test_reasoning_that_the_prompt_has_opened() -> None:
    message, _ = read(["Hm.</think>Yes"], prompt="<|user|> Hi <|assistant|><think>\n")
    assert message.all() == {"role": "assistant", "reasoning": "Hm.", "content": "Yes"}


def test_calls_in_the_prompt_are_none_of_the_answers() -> None:
    message, _ = read(["Sunny."], prompt=f"<|assistant|>{CALL}<|user|> And now? <|assistant|>")
    assert message.all() == {"role": "assistant", "content": "Sunny."}


TEMPLATE = {
    "start_anchor": "<|assistant|>",
    "fields": {
        "thinking": {"open": "<|t|>", "close": "<|/t|>"},
        "tool_calls": {"open": "<|c|>", "close": "<|/c|>", "repeats": True, "content": "json"},
        "content": {},
    },
}


def test_the_tokenizers_own_template_counts() -> None:
    said = '<|t|>Hm.<|/t|><|c|>{"name": "weather", "arguments": "{}"}<|/c|>'
    message, _ = read([said], "<|assistant|>", TEMPLATE)
    assert message.all() == {
        "role": "assistant",
        "reasoning": "Hm.",
        "content": None,
        "tool_calls": [{**CALLED, "function": {"name": "weather", "arguments": "{}"}}],
    }


def test_a_call_that_the_template_cannot_read_is_given_as_it_was_said() -> None:
    message, _ = read(["A", "<|c|>{no", " JSON", "<|/c|>", "B"], "<|assistant|>", TEMPLATE)
    assert message.all() == {"role": "assistant", "content": "A{no JSON<|/c|>B"}


def test_without_a_parser_all_is_content() -> None:
    message = Message("p1")
    assert message.add(f" {CALL}") == {"content": f" {CALL}"}
    assert message.add("", final=True) == {}
    assert message.all() == {"role": "assistant", "content": f" {CALL}"}
