"""A model's own Python class, loaded from a folder."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from inference_runner.engines.base import (
    BaseInferenceModel,
    Delta,
    EngineError,
    EngineOptions,
    Request,
    StepEngine,
)

log = logging.getLogger(__name__)


def create(options: EngineOptions) -> BaseInferenceModel:
    """An engine around an instance of `module:Class`, which need not derive from anything of ours.

    Raises:
        EngineError: if there is no such class, or it is not a model.
    """
    assert options.class_name is not None  # the spec demands it for type custom
    instance = _construct(_find(options), options.parameters)
    if inspect.isgeneratorfunction(instance.predict):
        return CustomStream(instance)
    return CustomBatch(instance) if hasattr(instance, "predict_batch") else Custom(instance)


def _find(options: EngineOptions) -> type[Any]:
    module_name, _, class_name = str(options.class_name).partition(":")
    folder = options.path if options.path.is_dir() else options.path.parent
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise EngineError(f"there is no module {module_name} in {folder}") from error
        raise EngineError(f"{module_name} imports {error.name}, which is missing") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise EngineError(f"there is no class {class_name} in {module.__file__}")
    if not callable(getattr(found, "predict", None)):
        raise EngineError(f"{class_name} has no method predict")
    return found


def _construct(found: type[Any], parameters: dict[str, Any]) -> Any:
    """The instance; it gets those engine.parameters that its __init__ takes."""
    signature = inspect.signature(found)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if takes_all else [k for k in parameters if k not in signature.parameters]
    if unknown:
        raise EngineError(f"{found.__name__} takes no parameter {', '.join(unknown)}")
    return found(**parameters)


class Custom(BaseInferenceModel):
    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def load(self) -> None:
        if hasattr(self._instance, "load"):
            self._instance.load()

    def predict(self, inputs: dict[str, Any]) -> Any:
        return self._instance.predict(inputs)

    def unload(self) -> None:
        if hasattr(self._instance, "unload"):
            self._instance.unload()


class CustomBatch(Custom):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return list(self._instance.predict_batch(batch))


class CustomStream(StepEngine):
    """A class whose `predict` is a generator: one item a step.

    One request at a time: two generators in one thread would only slow each other down.
    """

    is_text = False

    def __init__(self, instance: Any) -> None:
        self._inner = Custom(instance)
        self._active: tuple[str, Iterator[Any]] | None = None

    def load(self) -> None:
        self._inner.load()

    def unload(self) -> None:
        self._inner.unload()

    def add(self, request: Request) -> None:
        self._active = (request.id, self._inner.predict(request.inputs))

    def step(self) -> Sequence[Delta]:
        assert self._active is not None
        request_id, items = self._active
        try:
            return [Delta(request_id, next(items))]
        except StopIteration:
            self._active = None
            return [Delta(request_id, done=True)]
        except (Exception, SystemExit) as error:
            self._active = None
            return [Delta(request_id, done=True, error=error)]

    def remove(self, id: str) -> None:
        if self._active is not None and self._active[0] == id:
            items = self._active[1]
            self._active = None
            try:
                getattr(items, "close", lambda: None)()
            except Exception:
                log.exception("the model raised when it was stopped")
