"""Texts that keep to a form, from scores that are random: what the grammar leaves decides."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from inference_runner.engines.base import InputError
from inference_runner.engines.text_generation import sampling, structured_output
from inference_runner.engines.text_generation.options import TextOptions
from inference_runner.engines.text_generation.sampling import Sampler
from inference_runner.engines.text_generation.structured_output import Grammars

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
END = len(BYTES)
SIZE = 300
"""Of the model's scores: more than the tokenizer has tokens, as models often do."""
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "ok": {"type": "boolean"},
    },
    "required": ["mood", "age", "ok"],
    "additionalProperties": False,
}


def tokenizer() -> Any:
    """A token for each byte, and an end."""
    inner = Tokenizer(models.BPE({byte: n for n, byte in enumerate([*BYTES, "<end>"])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


TOKENIZER = tokenizer()
GRAMMARS = Grammars(TOKENIZER, SIZE, frozenset([END]))


def write(response_format: Any, seed: int = 0, temperature: float = 1.0, most: int = 400) -> str:
    """What a model writes whose scores are random, beside one row that is free."""
    grammar = GRAMMARS.make({"response_format": response_format})
    assert grammar is not None
    wanted = TextOptions(most, temperature, 1.0, 0, seed, ())
    rows = [Sampler(wanted), Sampler(wanted, grammar=grammar)]
    scores = torch.Generator().manual_seed(seed)
    said: list[int] = []
    while not rows[1].is_complete and len(said) < most:
        free, token = sampling.choose(torch.randn((2, SIZE), generator=scores), rows)
        assert isinstance(free, int)
        assert isinstance(token, int)
        said.append(token)
    return str(TOKENIZER.decode(said, skip_special_tokens=True))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), temperature=st.sampled_from([0.0, 1.0]))
def test_a_schema_is_kept(seed: int, temperature: float) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    jsonschema.validate(json.loads(write(asked, seed, temperature)), SCHEMA)


def test_a_json_object_is_begun() -> None:
    assert write({"type": "json_object"}, most=1) == "{"


def test_a_regular_expression_is_matched() -> None:
    for seed in range(5):
        text = write({"type": "regex", "regex": "[a-c]{3}-[0-9]{2}é"}, seed)
        assert re.fullmatch("[a-c]{3}-[0-9]{2}é", text)


def test_one_of_the_choices_is_made() -> None:
    choices = ["yes", 'a "no"', "ja\n", "ä"]
    made = {write({"type": "choice", "choice": choices}, seed) for seed in range(40)}
    assert made == set(choices)


@pytest.mark.parametrize("response_format", [None, {"type": "text"}])
def test_any_text_will_do(response_format: Any) -> None:
    assert GRAMMARS.make({"response_format": response_format}) is None


KINDS = "text, json_object, json_schema, regex, choice"


@pytest.mark.parametrize(
    ("response_format", "message"),
    [
        ("json", f"response_format must be an object whose type is one of: {KINDS}"),
        ({"type": "xml"}, f"response_format must be an object whose type is one of: {KINDS}"),
        ({"type": []}, f"response_format must be an object whose type is one of: {KINDS}"),
        (
            {"type": "json_schema", "schema": SCHEMA},
            "response_format.json_schema must be an object with a schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": True}},
            "response_format.json_schema must be an object with a schema",
        ),
        ({"type": "regex"}, "response_format.regex must be a string"),
        (
            {"type": "choice", "choice": []},
            "response_format.choice must be a list of strings, at least one",
        ),
        (
            {"type": "choice", "choice": ["a", 1]},
            "response_format.choice must be a list of strings, at least one",
        ),
        (
            {"type": "choice", "choice": ["a"] * 1_001},
            "response_format.choice must have at most 1000 strings, not 1001",
        ),
        (
            {"type": "regex", "regex": "a" * 199_971},
            "response_format must have at most 200000 bytes, not 200001",
        ),
    ],
)
def test_what_is_no_form(response_format: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        structured_output.read(response_format)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("response_format", "reason"),
    [
        ({"type": "regex", "regex": "(a"}, "unclosed group"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}, "nope"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "string", "not": {}}}},
            "not",
        ),
    ],
)
def test_a_form_that_cannot_be_kept_is_refused(response_format: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"^response_format: .*{reason}") as refused:
        GRAMMARS.make({"response_format": response_format})
    assert len(str(refused.value)) < 400


def test_a_thousand_choices_are_not_too_many() -> None:
    choices = [f"text number {number}" for number in range(1_000)]
    assert write({"type": "choice", "choice": choices}) in choices


def test_copies_of_a_form_go_their_own_ways() -> None:
    one = GRAMMARS.make({"response_format": {"type": "choice", "choice": ["yes", "no"]}})
    assert one is not None
    other = one.copy()
    for grammar, text in ((one, "yes"), (other, "no")):
        for token in TOKENIZER.encode(text):
            grammar.accept(token)
        assert grammar.is_complete


def test_a_model_without_an_end_cannot_keep_to_a_form() -> None:
    with pytest.raises(InputError, match="this model has no token that ends a text"):
        Grammars(TOKENIZER, SIZE, frozenset()).make({"response_format": {"type": "json_object"}})


def test_a_token_that_the_form_refuses_is_a_matter_of_its_row() -> None:
    grammar = GRAMMARS.make({"response_format": {"type": "choice", "choice": ["yes"]}})
    assert grammar is not None
    with pytest.raises(RuntimeError, match=r"^response_format: .*grammar"):
        grammar.accept(TOKENIZER.encode("n")[0])
    wanted = TextOptions(9, 0.0, 1.0, 0, 0, ())
    chosen = sampling.choose(
        torch.zeros((2, SIZE)), [Sampler(wanted, grammar=grammar), Sampler(wanted)]
    )
    assert isinstance(chosen[0], RuntimeError)
    assert chosen[1] == 0
