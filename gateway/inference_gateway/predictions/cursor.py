"""Opaque cursors of pages: a prediction's id, and the direction from it."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from uuid import UUID

from inference_gateway.errors import Invalid


class Cursor(NamedTuple):
    older_than: UUID | None = None
    newer_than: UUID | None = None

    def encode(self) -> str:
        beside, direction = (self.older_than, b"o") if self.older_than else (self.newer_than, b"n")
        assert beside is not None
        return base64.urlsafe_b64encode(direction + beside.bytes).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Raises Invalid."""
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            beside = UUID(bytes=content[1:])
            return {b"o": cls(older_than=beside), b"n": cls(newer_than=beside)}[content[:1]]
        except (binascii.Error, ValueError, KeyError) as error:
            raise Invalid(
                "query.cursor is not one of ours: take `next` or `previous` of a page",
                errors=[{"field": "query.cursor", "message": "is not a cursor"}],
            ) from error
