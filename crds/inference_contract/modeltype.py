"""The types of models."""

from __future__ import annotations

from enum import StrEnum


class ModelType(StrEnum):
    TEXT_GENERATION = "text-generation"
    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_TEXT = "image-to-text"
    CLASSIFICATION = "classification"
    CUSTOM = "custom"
