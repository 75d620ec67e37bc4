"""What a caller may ask of text generation, and what is told of the rest."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from inference_contract.modeltype import ModelType
from inference_contract.parameters import INTERFACES, Parameter
from inference_runner.engines.base import InputError
from inference_runner.engines.text_generation.options import (
    GREEDY_BELOW,
    TextOptions,
    default_seed,
    read,
)

CONTEXT = 1000
USUAL = TextOptions(128, 0.0, 1.0, 0, default_seed("id"), ())


def _read(prompt_tokens: int = 10, /, **inputs: Any) -> TextOptions:
    return read("id", inputs, prompt_tokens, CONTEXT)


def test_the_defaults_are_those_that_the_api_documents() -> None:
    documented = INTERFACES[ModelType.TEXT_GENERATION].inputs
    defaults = {
        name: parameter.default
        for name, parameter in documented.items()
        if parameter.default is not None and name != "tool_choice"
    }
    assert {name: getattr(USUAL, name) for name in defaults} == defaults


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name, parameter in INTERFACES[ModelType.TEXT_GENERATION].inputs.items()
        if parameter.minimum is not None
    ],
)
def test_all_that_the_api_lets_through_is_taken(name: str, parameter: Parameter) -> None:
    for bound in (parameter.minimum, parameter.maximum):
        if bound is not None:
            _read(**{"max_new_tokens": 32_768, name: bound})


@pytest.mark.parametrize("name", ["n", "logprobs"])
def test_what_costs_memory_has_the_bound_of_the_api(name: str) -> None:
    most = INTERFACES[ModelType.TEXT_GENERATION].inputs[name].maximum
    with pytest.raises(InputError, match=f"^{name} must be at most {most}, "):
        _read(**{name: int(most or 0) + 1})


def test_what_is_not_said_or_null_is_as_usual() -> None:
    names = ["max_length", "max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop"]
    names += ["min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"]
    names += ["min_new_tokens", "ignore_eos", "logprobs", "n"]
    assert _read() == USUAL
    assert _read(**dict.fromkeys(names)) == USUAL


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"max_new_tokens": 1}, {"max_new_tokens": 1}),
        ({"max_new_tokens": 990}, {"max_new_tokens": 990}),
        ({"max_new_tokens": 5000}, {"max_new_tokens": 990}),
        ({"max_new_tokens": 7.0}, {"max_new_tokens": 7}),
        ({"max_length": 11}, {"max_new_tokens": 1}),
        ({"max_length": 500}, {"max_new_tokens": 490}),
        ({"max_length": 5000}, {"max_new_tokens": 990}),
        ({"max_length": 500, "max_new_tokens": 3}, {"max_new_tokens": 3}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 99.5}, {"temperature": 99.5}),
        ({"top_p": 0}, {"top_p": 0}),
        ({"top_p": 1}, {"top_p": 1}),
        ({"top_k": 5}, {"top_k": 5}),
        ({"min_p": 0.5}, {"min_p": 0.5}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"frequency_penalty": -2}, {"frequency_penalty": -2}),
        ({"presence_penalty": 2}, {"presence_penalty": 2}),
        ({"min_new_tokens": 3}, {"min_new_tokens": 3}),
        ({"min_new_tokens": 995, "max_new_tokens": 995}, {"min_new_tokens": 990}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
        ({"n": 16}, {"n": 16}),
        ({"logprobs": 0}, {"logprobs": 0}),
        ({"logprobs": 20}, {"logprobs": 20}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": 2**64 - 1}),
        ({"seed": 2**64}, {"seed": 0}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"stop": ["a", "", "b"]}, {"stop": ("a", "b")}),
        ({"stop": ""}, {"stop": ()}),
        ({"stop": ["a"] * 32}, {"stop": ("a",) * 32}),
    ],
)
def test_what_is_said(inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    found = _read(**inputs)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_length": 0}, "max_length must be at least 1, not 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be an integer, not 1.5"),
        ({"temperature": -0.1}, "temperature must be at least 0, not -0.1"),
        ({"stop": ["a"] * 33}, "stop must have at most 32 strings, not 33"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"temperature": True}, "temperature must be a number"),
        ({"temperature": float("inf")}, "temperature must be finite, not inf"),
        ({"top_p": 1.1}, "top_p must be from 0 to 1, not 1.1"),
        ({"top_p": -1}, "top_p must be from 0 to 1, not -1"),
        ({"top_k": -1}, "top_k must be at least 0, not -1"),
        ({"min_p": 1.1}, "min_p must be from 0 to 1, not 1.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be from 0.01 to 100, not 0"),
        ({"frequency_penalty": 2.5}, "frequency_penalty must be from -2 to 2, not 2.5"),
        ({"presence_penalty": -3}, "presence_penalty must be from -2 to 2, not -3"),
        ({"min_new_tokens": -1}, "min_new_tokens must be at least 0, not -1"),
        ({"min_new_tokens": 129}, "min_new_tokens is 129, more than max_new_tokens, 128"),
        ({"n": 0}, "n must be at least 1, not 0"),
        ({"n": 17}, "n must be at most 16, not 17"),
        ({"logprobs": -1}, "logprobs must be at least 0, not -1"),
        ({"logprobs": 21}, "logprobs must be at most 20, not 21"),
        ({"logprobs": True}, "logprobs must be a number"),
        ({"ignore_eos": 1}, "ignore_eos must be true or false"),
        ({"seed": 0.5}, "seed must be an integer, not 0.5"),
        ({"stop": 3}, "stop must be a list of strings"),
        ({"stop": ["a", 3]}, "stop must be a list of strings"),
        ({"stop": {"a": 1}}, "stop must be a list of strings"),
    ],
)
def test_what_cannot_be(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        _read(**inputs)
    assert str(refused.value) == message


@pytest.mark.parametrize(("inputs", "limit"), [({}, 1000), ({"max_length": 500}, 500)])
def test_a_prompt_leaves_room_for_one_token(inputs: dict[str, Any], limit: int) -> None:
    assert _read(limit - 1, **inputs).max_new_tokens == 1
    with pytest.raises(InputError) as refused:
        _read(limit, **inputs)
    assert str(refused.value) == (
        f"the prompt has {limit} tokens and leaves no room: "
        f"prompt and output together may have {limit}"
    )


def test_a_second_attempt_says_the_same() -> None:
    assert default_seed("id") == int(hashlib.sha256(b"id").hexdigest()[:12], 16)


def test_where_it_is_greedy() -> None:
    assert _read(temperature=GREEDY_BELOW / 2).is_greedy
    assert not _read(temperature=GREEDY_BELOW).is_greedy


@pytest.mark.parametrize("inputs", [{"top_k": 1}, {"top_p": 0}])
def test_what_leaves_one_token_is_greedy(inputs: dict[str, Any]) -> None:
    assert _read(temperature=1, **inputs).is_greedy


@pytest.mark.parametrize(
    "inputs", [{"repetition_penalty": 1.1}, {"frequency_penalty": 1}, {"presence_penalty": 1}]
)
def test_what_penalizes(inputs: dict[str, Any]) -> None:
    assert _read(**inputs).has_penalties
    assert not _read(**dict.fromkeys(inputs)).has_penalties
