"""The engine of each model type, imported only when it is needed."""

from __future__ import annotations

import importlib
from typing import cast

from inference_contract.modeltype import ModelType
from inference_runner.engines.base import BaseInferenceModel, EngineError, EngineOptions

MODULES = {
    ModelType.TEXT_GENERATION: "text_generation.engine",
    ModelType.TEXT_TO_IMAGE: "text_to_image",
    ModelType.IMAGE_TO_TEXT: "image_to_text",
    ModelType.CLASSIFICATION: "classification",
    ModelType.CUSTOM: "custom",
}


def create(model_type: ModelType, options: EngineOptions) -> BaseInferenceModel:
    """The engine, not yet loaded: each module has a `create(options)`.

    Raises:
        EngineError: if the model is not one of this type, or a library is missing.
    """
    name = f"inference_runner.engines.{MODULES[model_type]}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f"models of type {model_type} need the package {error.name}"
        raise EngineError(message) from error
    return cast("BaseInferenceModel", module.create(options))
