"""Converts requests into texts to generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jinja2 import TemplateError

from inference_runner.engines import pretrained
from inference_runner.engines.base import InputError, Request
from inference_runner.engines.text_generation import chat, end_tokens, options
from inference_runner.engines.text_generation.generation import (
    Choices,
    Generation,
    Vocabulary,
)
from inference_runner.engines.text_generation.message import Message, parser
from inference_runner.engines.text_generation.options import TextOptions
from inference_runner.engines.text_generation.structured_output import Grammar, Grammars


class RequestReader:
    """
    Args:
        model: of transformers, loaded.
        tokenizer: its own.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.context = pretrained.positions(model)
        """Most tokens of a text, its prompt included."""
        self._size = int(model.get_input_embeddings().weight.shape[0])
        self.vocabulary = Vocabulary(
            self._decode, end_tokens.of(model, tokenizer), end_tokens.hidden(tokenizer)
        )
        # Some special tokens are tags of reasoning and tool calls.
        names = tokenizer.convert_ids_to_tokens(sorted(self.vocabulary.ends))
        ends = dict(zip(sorted(self.vocabulary.ends), names, strict=True))
        self._with_tags = Vocabulary(
            partial(self._decode, with_tags=True), self.vocabulary.ends, ends
        )
        self._longest = max(map(len, tokenizer.get_vocab()))
        """Characters of the longest token."""
        self._grammars = Grammars(tokenizer, self._size, self.vocabulary.ends)

    def read(self, request: Request) -> list[Generation]:
        """The texts of a request, one for each choice. Raises InputError."""
        tools = chat.tools(request.inputs)
        text, prompt = self._prompt(request.inputs, tools)
        asked = options.read(request.id, request.inputs, len(prompt), self.context)
        grammar = self._grammar(request.inputs, asked)
        vocabulary = self._with_tags if tools else self.vocabulary
        choices = Choices(asked.n)
        return [
            Generation(
                request.id,
                prompt,
                replace(asked, seed=(asked.seed + number) % 2**64),
                vocabulary,
                grammar and grammar.copy(),
                self._message(request.id, number, asked, text, tools),
                number,
                choices,
            )
            for number in range(asked.n)
        ]

    def _grammar(self, inputs: Mapping[str, Any], asked: TextOptions) -> Grammar | None:
        grammar = self._grammars.make(inputs)
        if grammar is not None and (asked.ignore_eos or asked.min_new_tokens):
            raise InputError(
                "response_format says where a text ends: no ignore_eos or min_new_tokens with it"
            )
        return grammar

    def _message(
        self, id: str, number: int, asked: TextOptions, text: str, tools: list[dict[str, Any]]
    ) -> Message | None:
        """None: the output is a string."""
        if tools:
            template = getattr(self._tokenizer, "response_template", None)
            name = id if asked.n == 1 else f"{id}_{number}"
            return Message(name, parser(template, text, tools))
        return Message(id) if asked.logprobs is not None or asked.n > 1 else None

    def _prompt(
        self, inputs: Mapping[str, Any], tools: list[dict[str, Any]]
    ) -> tuple[str, list[int]]:
        """The prompt after the chat template, and its tokens, at least one. Raises InputError."""
        is_chat = bool(self._tokenizer.chat_template)
        text = self._render(chat.messages(inputs), tools) if is_chat else chat.plain_prompt(inputs)
        if len(text) > self.context * self._longest:  # To tokenize 8 MB takes 10 s.
            raise InputError(
                f"the prompt has {len(text)} characters, more than {self.context} tokens can have: "
                "prompt and output together may have so many"
            )
        ids = self._tokenizer(text, add_special_tokens=not is_chat)["input_ids"]
        if not ids:
            raise InputError("prompt is empty")
        if max(ids) >= self._size:
            token = self._tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(f"prompt holds {token!r}: a token that the model itself does not have")
        return text, list(ids)

    def _render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        if tools and "tools" not in str(self._tokenizer.chat_template):
            raise InputError("this model's chat template has no tools")
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tools=tools or None, tokenize=False, add_generation_prompt=True
                )
            )
        except TemplateError as error:
            raise InputError(f"the model's chat template refuses this: {error}") from error

    def _decode(self, ids: Sequence[int], *, with_tags: bool = False) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=not with_tags, clean_up_tokenization_spaces=False
        )
        return str(text)
