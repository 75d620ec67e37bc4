"""The pure parts of text generation: options, detokenizing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from inference_runner.engines.base import InputError
from inference_runner.engines.text_generation import options
from inference_runner.engines.text_generation.detokenizer import Detokenizer, overlap


def decode(ids: Any) -> str:
    """A tokenizer of bytes."""
    return bytes(ids).decode("utf-8", "replace")


def pieces(text: str, *stop: str) -> list[str]:
    detokenizer = Detokenizer(decode, stop)
    found = []
    for token in text.encode():
        found.append(detokenizer.add(token))
        if detokenizer.stopped:
            break
    return [piece for piece in [*found, detokenizer.finish()] if piece]


@pytest.mark.parametrize("text", ["plain", "schön", "日本語", "a👩‍👩‍👧z", ""])
def test_pieces_are_whole_characters_and_join_to_the_text(text: str) -> None:
    found = pieces(text)
    assert "".join(found) == text
    assert all("\ufffd" not in piece for piece in found)


def test_half_a_character_at_the_end_comes_at_the_end() -> None:
    detokenizer = Detokenizer(decode)
    assert [detokenizer.add(byte) for byte in "é".encode()[:1]] == [""]
    assert detokenizer.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one END two", ("END",), "one "),
        ("one E two", ("END",), "one E two"),
        ("one EEND two", ("END",), "one E"),
        ("one EN", ("END",), "one EN"),
        ("a b c", ("c", "b"), "a "),
        ("stop", ("stop",), ""),
    ],
)
def test_text_ends_before_a_stop_string(text: str, stop: tuple[str, ...], expected: str) -> None:
    assert "".join(pieces(text, *stop)) == expected


@pytest.mark.parametrize(
    ("text", "stop", "length"),
    [("abc", "cd", 1), ("abc", "abcd", 3), ("abc", "x", 0), ("", "a", 0)],
)
def test_overlap(text: str, stop: str, length: int) -> None:
    assert overlap(text, stop) == length


@pytest.mark.parametrize(
    ("inputs", "prompt", "tokens"),
    [
        ({}, 10, 128),
        ({"max_new_tokens": 5}, 10, 5),
        ({"max_new_tokens": 5000}, 10, 990),
        ({"max_length": 50}, 10, 40),
        ({"max_length": 50, "max_new_tokens": 5}, 10, 5),
        ({"max_length": 50, "max_new_tokens": 100}, 10, 40),
        ({"max_length": 5000}, 10, 990),
    ],
)
def test_how_many_new_tokens(inputs: dict[str, Any], prompt: int, tokens: int) -> None:
    assert options.read("id", inputs, prompt, 1000).max_new_tokens == tokens


@pytest.mark.parametrize(
    ("inputs", "prompt", "message"),
    [
        ({}, 1000, "the prompt has 1000 tokens and leaves no room: .* may have 1000"),
        ({"max_length": 10}, 10, "the prompt has 10 tokens and leaves no room: .* may have 10"),
        ({"temperature": "hot"}, 1, "temperature must be a number"),
        ({"stop": [1]}, 1, "stop must be a list of strings"),
    ],
)
def test_refused(inputs: dict[str, Any], prompt: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        options.read("id", inputs, prompt, 1000)
    assert re.search(message, str(caught.value))


def test_the_seed_comes_from_the_id() -> None:
    seeds = [options.read(name, {}, 1, 10).seed for name in ("a", "a", "b")]
    assert seeds[0] == seeds[1] != seeds[2]
