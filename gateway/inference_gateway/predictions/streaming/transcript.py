"""Tracks the output that a stream's reader has, so that only new output is sent.

Only a mark is kept: the length, and checksums. A reader that reconnects sends its mark, which can
be compared with any other source of the same output: the stream of a repeated run, or the row."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import orjson

_SLICE = 65_536
"""Characters encoded at once, as encoding holds the GIL."""


class Diverged(Exception):
    """The output differs from the one that the reader has."""


class Mark(NamedTuple):
    """How far an output was sent."""

    items: int = 0
    chars: int = 0
    crc: int = 0
    """Checksum of all characters so far."""
    cuts: int = 0
    """Checksum of the items' lengths: tells lists whose texts concatenate to the same."""

    def after(self, text: str) -> Mark:
        return Mark(
            self.items + 1,
            self.chars + len(text),
            _checksum(text, self.crc),
            zlib.crc32(b"%d," % len(text), self.cuts),
        )


def _checksum(text: str, before: int = 0) -> int:
    for start in range(0, len(text), _SLICE):
        before = zlib.crc32(text[start : start + _SLICE].encode(), before)
    return before


class Transcript:
    """Output pieces in order: parts of one text if all are texts, else the items of a list. An
    object is no sum of pieces: it comes whole, after those that the run gave before.

    Args:
        sent: the mark of the output that the reader has.
    """

    def __init__(self, sent: Mark = Mark()) -> None:  # noqa: B008 - immutable
        self.sent = sent
        self._run = Mark()
        """The mark of the current run; up to `sent` it repeats known output."""

    def repeat(self) -> None:
        """Start over: the prediction runs again."""
        self._run = Mark()

    def add(self, piece: Any) -> list[Any]:
        """The part of the next piece that is new to the reader: all, its rest, or nothing.

        Raises:
            Diverged
        """
        text = canonical(piece)
        room = self.sent.chars - self._run.chars
        if not room and (text or self._run.items >= self.sent.items):
            return [piece]
        if len(text) <= room:
            self._run = self._run.after(text)
            if self._run.chars == self.sent.chars and self._run.crc != self.sent.crc:
                raise Diverged
            return []
        if not isinstance(piece, str) or self._run.after(text[:room]).crc != self.sent.crc:
            raise Diverged
        return [text[room:]]

    def send(self, piece: Any) -> None:
        """Record that a piece from `add` or `complete` was sent."""
        self.sent = self._run = self.sent.after(canonical(piece))

    def complete(self, output: Any) -> list[Any]:
        """The pieces that the reader lacks of the whole output.

        Raises:
            Diverged
        """
        if isinstance(output, dict):
            return [] if self._run.after(canonical(output)) == self.sent else [output]
        missing = _rest_of_items(self.sent, output) if isinstance(output, list) else None
        return _rest_of_text(self.sent, output) if missing is None else missing


def _rest_of_items(sent: Mark, items: list[Any]) -> list[Any] | None:
    """None if the reader's output is not a prefix of the list."""
    mark = Mark()
    for item in items[: sent.items]:
        mark = mark.after(canonical(item))
    return items[sent.items :] if mark == sent else None


def _rest_of_text(sent: Mark, output: Any) -> list[Any]:
    if not sent.items:
        return [] if output == "" else [output]
    whole = canonical(output)
    head, rest = whole[: sent.chars], whole[sent.chars :]
    if len(head) < sent.chars or _checksum(head) != sent.crc:
        raise Diverged
    if rest and not isinstance(output, str):
        raise Diverged
    return [rest] if rest else []


def canonical(piece: Any) -> str:
    """A JSON text that is the same before and after jsonb, which sorts keys and changes numbers."""
    if isinstance(piece, str):
        return piece
    return orjson.dumps(_plain(piece), option=orjson.OPT_SORT_KEYS).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
