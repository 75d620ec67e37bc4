"""From a request to what shall be generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_runner.engines import inputs, pretrained
from inference_runner.engines.base import InputError, Request
from inference_runner.engines.text_generation import end_tokens, options
from inference_runner.engines.text_generation.generation import Generation, Vocabulary


class RequestReader:
    """
    Args:
        model: of transformers, loaded.
        tokenizer: its own.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._context = pretrained.positions(model)
        self._size = int(model.get_input_embeddings().weight.shape[0])
        self.vocabulary = Vocabulary(
            self._decode, end_tokens.of(model, tokenizer), end_tokens.hidden(tokenizer)
        )

    def read(self, request: Request) -> list[Generation]:
        """The texts that it asks for. Raises InputError."""
        prompt = self._encode(inputs.text(request.inputs, "prompt"))
        asked = options.read(request.id, request.inputs, len(prompt), self._context)
        return [Generation(request.id, prompt, asked, self.vocabulary)]

    def _encode(self, prompt: str) -> list[int]:
        """Raises InputError."""
        if self._tokenizer.chat_template:
            turn: Any = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            ids = self._tokenizer(turn, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer(prompt)["input_ids"]
        if not ids:
            raise InputError("prompt is empty")
        if max(ids) >= self._size:
            token = self._tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(f"prompt holds {token!r}: a token that the model itself does not have")
        return list(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)
