"""What the reader of a stream was sent so far, so that a repeated run sends only what is new."""

from __future__ import annotations

from typing import Any


class Diverged(Exception):
    """The run was repeated, and its output is not what the reader was sent before."""


class Transcript:
    """Output pieces in order: text that adds up if all are texts, else the items of a list."""

    def __init__(self) -> None:
        self._sent: list[Any] = []
        self._expected_text = ""
        """Of a repeated run of text: what was sent and did not come again yet."""
        self._expected_items: list[Any] = []
        """The same of items."""

    def repeat(self) -> None:
        """The run begins anew."""
        if all(isinstance(piece, str) for piece in self._sent):
            self._expected_text, self._expected_items = "".join(self._sent), []
        else:
            self._expected_text, self._expected_items = "", list(self._sent)

    @property
    def is_behind(self) -> bool:
        """Whether the repeated run has not come as far as what was sent."""
        return bool(self._expected_text or self._expected_items)

    def add(self, piece: Any) -> list[Any]:
        """What of the next piece is new to the reader: it, its rest, or nothing.

        Raises:
            Diverged
        """
        if self._expected_items:
            if self._expected_items.pop(0) != piece:
                raise Diverged
            return []
        if self._expected_text:
            if not isinstance(piece, str):
                raise Diverged
            common = min(len(piece), len(self._expected_text))
            if piece[:common] != self._expected_text[:common]:
                raise Diverged
            self._expected_text = self._expected_text[common:]
            piece = piece[common:]
            if not piece:
                return []
        self._sent.append(piece)
        return [piece]

    def complete(self, output: Any) -> list[Any]:
        """What is missing to the whole output.

        Raises:
            Diverged
        """
        whole = output if isinstance(output, list) else [output]
        if isinstance(output, str) and all(isinstance(piece, str) for piece in self._sent):
            sent = "".join(self._sent)
            if not output.startswith(sent):
                raise Diverged
            missing: list[Any] = [output[len(sent) :]] if len(output) > len(sent) else []
        elif self._sent == whole[: len(self._sent)]:
            missing = whole[len(self._sent) :]
        else:
            raise Diverged
        self._sent += missing
        return missing
