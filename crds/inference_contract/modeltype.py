"""The types of models."""

from __future__ import annotations

from enum import StrEnum


class ModelType(StrEnum):
    TEXT_GENERATION = "text-generation"
    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_TEXT = "image-to-text"
    CLASSIFICATION = "classification"
    CUSTOM = "custom"

    @property
    def streams_text(self) -> bool:
        """Whether output pieces are text that is joined; custom classes stream lists."""
        return self is not ModelType.CUSTOM
