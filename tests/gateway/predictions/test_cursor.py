"""The cursors of pages: what is given out is understood, and nothing else."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest

from inference_gateway.errors import Invalid
from inference_gateway.predictions.cursor import Cursor

ID = UUID("0192f3a1-0000-7000-8000-0000000000ff")
OLDER, NEWER = Cursor(older_than=ID), Cursor(newer_than=ID)


@pytest.mark.parametrize("cursor", [OLDER, NEWER])
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


def test_a_cursor_needs_no_quoting_in_a_url() -> None:
    texts = [Cursor(older_than=UUID(bytes=bytes([byte]) * 16)).encode() for byte in range(256)]
    assert all(text.replace("-", "").replace("_", "").isalnum() for text in texts)
    assert any("-" in text for text in texts)
    assert any("_" in text for text in texts)


def test_a_page_that_is_kept_stays_valid() -> None:
    """Clients keep them: the form does not change."""
    assert OLDER.encode() == base64.urlsafe_b64encode(b"o" + ID.bytes).decode().rstrip("=")
    assert NEWER.encode() == base64.urlsafe_b64encode(b"n" + ID.bytes).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "!!!!",
        OLDER.encode()[:-4],
        OLDER.encode() + "AAAA",
        OLDER.encode()[:5] + "*" + OLDER.encode()[5:],
        base64.urlsafe_b64encode(b"x" + ID.bytes).decode(),
        "é" * 24,
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Cursor.decode(text)
    assert refused.value.detail == (
        "query.cursor is not one of ours: take `next` or `previous` of a page"
    )
    assert refused.value.errors == [{"field": "query.cursor", "message": "is not a cursor"}]
