"""A large value is passed on as text if it is certainly no deeper than a value may be."""

from __future__ import annotations

import random

import orjson
import pytest

from inference_contract import values
from inference_gateway.postgres import stored

MOST = values.MAX_DEPTH


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("piece", [1, 7, 64, 65_536])
@pytest.mark.parametrize("depth", [1, 2, MOST, MOST + 1, 3 * MOST])
def test_no_value_that_is_too_deep_is_shallow(
    monkeypatch: pytest.MonkeyPatch, piece: int, depth: int
) -> None:
    monkeypatch.setattr(stored, "_LARGE", piece)
    for text in (_nested(depth), b"[%b,{},%b]" % (_nested(depth - 1), _nested(depth - 1))):
        if depth > MOST or piece == 65_536:
            assert stored.is_shallow(text) is (depth <= MOST)


@pytest.mark.parametrize("piece", [1, 7, 64, 65_536])
def test_a_usual_value_is_shallow_wherever_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(stored, "_LARGE", piece)
    chance = random.Random(0)
    items = [
        chance.choice(["[]", "{}", '{"a":[1,[2]]}', "[[[[1]]]]", '"text"']) for _ in range(999)
    ]
    assert stored.is_shallow(f"[{','.join(items)}]".encode())


def test_of_a_large_value_no_search_sees_all() -> None:
    """While one runs, no other thread does."""

    class Content(bytes):
        slices: list[int] = []

        def __getitem__(self, part: slice) -> bytes:  # type: ignore[override]  # nobody asks for one
            found = super().__getitem__(part)
            self.slices.append(len(found))
            return found

        def translate(self, *_: object) -> bytes:
            raise AssertionError("the whole of it")

    content = Content(b"[%b1]" % (b"[]," * 100_000))
    assert stored.is_shallow(content)
    assert max(content.slices) <= 65_536


@pytest.mark.parametrize("piece", [1, 2, 7, 64])
def test_a_text_is_the_same_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(stored, "_LARGE", piece)
    chance = random.Random(0)
    for length in range(200):
        text = "".join(chance.choices(["a", "\\", '"', "\n", "\x01", "é", "😀", "u0041"], k=length))
        assert stored.decode(orjson.dumps(text).decode()) == text


def test_of_a_large_text_only_pieces_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is, no other thread runs."""
    sizes = []
    loads = orjson.loads

    def watched(text: str) -> object:
        sizes.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "loads", watched)
    assert stored.decode(f'"{"x" * 1_000_000}"') == "x" * 1_000_000
    assert max(sizes) < 70_000


def test_a_text_that_is_none_stays_as_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_LARGE", 4)
    assert not stored.is_value(stored.decode('"abc\\ud800def"'))


def test_a_large_value_is_passed_on_without_being_joined() -> None:
    content = b'"%b"' % (b"x" * 100_000)
    value = {"a": stored.PassedOn(content), "b": ["\0", stored.PassedOn(content)], "c": 1}
    pieces = stored.in_pieces(value)
    text = "x" * 100_000
    assert orjson.loads(b"".join(pieces)) == {"a": text, "b": ["\0", text], "c": 1}
    assert sum(piece is content for piece in pieces) == 2


@pytest.mark.parametrize("cut", [1, 2, 3, 65_536])
def test_a_text_that_is_decoded_in_pieces_is_whole(
    monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(stored, "_LARGE", cut)
    text = "a\u00e9\u20ac\U0001f600" * 100
    assert stored.as_text(text.encode()) == text


@pytest.mark.parametrize("piece", [1, 2, 7, 64])
@pytest.mark.parametrize(
    ("value", "is_passed_on"),
    [
        ([["["] * 9, "[" * 300, '\\"' * 9 + "[" * 300, "\\"], True),
        (["]" * 300, orjson.Fragment("[" * 63 + "]" * 63)], True),
        (["]" * 300, orjson.Fragment("[" * 64 + "]" * 64)], False),
        (orjson.Fragment(f"[{'[' * 60}{']' * 60},{'[' * 63}{']' * 63}]"), True),
    ],
)
def test_a_large_value_is_passed_on_unless_it_is_too_deep(
    monkeypatch: pytest.MonkeyPatch, piece: int, value: object, is_passed_on: bool
) -> None:
    """Brackets in texts count for nothing. Nothing large is decoded."""
    monkeypatch.setattr(stored, "_LARGE", piece)
    monkeypatch.delattr(stored, "decode")
    made = stored.passed_on(orjson.dumps(value))
    assert isinstance(made, stored.PassedOn) is is_passed_on
    assert stored.is_value(made) is is_passed_on
