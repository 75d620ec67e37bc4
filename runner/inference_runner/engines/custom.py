"""A model's own Python class, loaded from a folder."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from inference_runner.engines.base import (
    BaseInferenceModel,
    Delta,
    EngineError,
    EngineOptions,
    Request,
    StepEngine,
)


def create(options: EngineOptions) -> BaseInferenceModel:
    """An engine around an instance of `module:Class`, which needs no base class of ours.

    Raises:
        EngineError: the class does not exist, or is not a model.
    """
    assert options.class_name is not None  # the spec demands it for type custom
    instance = _construct(_find(options), options.parameters)
    if inspect.isgeneratorfunction(instance.predict) or inspect.isasyncgenfunction(
        instance.predict
    ):
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
    """The instance, constructed with the engine.parameters that its __init__ takes."""
    signature = inspect.signature(found)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if takes_all else [k for k in parameters if k not in signature.parameters]
    if unknown:
        raise EngineError(f"{found.__name__} takes no parameter {', '.join(unknown)}")
    return found(**parameters)


class Custom(BaseInferenceModel):
    """Methods may be coroutines: they share one event loop, which runs while they do."""

    is_foreign = True

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._asyncio: asyncio.Runner | None = None

    def load(self) -> None:
        self._optional("load")

    def predict(self, inputs: dict[str, Any]) -> Any:
        return self.result(self._instance.predict(inputs))

    def check(self) -> None:
        self._optional("check")

    def unload(self) -> None:
        self._optional("unload")

    def result(self, returned: Any) -> Any:
        """The returned value; a coroutine is run to its result."""
        if not inspect.iscoroutine(returned):
            return returned
        if self._asyncio is None:
            self._asyncio = asyncio.Runner()
        try:
            return self._asyncio.run(returned)
        except Exception:
            raise
        except BaseException:  # The event loop was interrupted.
            self._asyncio = None
            raise

    def _optional(self, name: str) -> None:
        if hasattr(self._instance, name):
            self.result(getattr(self._instance, name)())


class CustomBatch(Custom):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return list(self.result(self._instance.predict_batch(batch)))


class CustomStream(StepEngine):
    """A class whose `predict` is a generator: one item a step.

    One request at a time: two generators in one thread would only slow each other down.
    """

    is_foreign = True
    is_text = False

    def __init__(self, instance: Any) -> None:
        self._inner = Custom(instance)
        self._active: tuple[str, Iterator[Any]] | None = None

    def load(self) -> None:
        self._inner.load()

    def check(self) -> None:
        self._inner.check()

    def unload(self) -> None:
        self._inner.unload()

    def add(self, request: Request) -> None:
        items = self._inner.predict(request.inputs)
        self._active = (request.id, self._items(items) if inspect.isasyncgen(items) else items)

    def _items(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        """The items of an asynchronous generator, each as it is yielded."""

        async def following() -> Any:
            return await anext(items)

        while True:
            try:
                item = self._inner.result(following())
            except StopAsyncIteration:
                return
            yield item

    def step(self) -> Sequence[Delta]:
        assert self._active is not None
        request_id, items = self._active
        try:
            return [Delta(request_id, next(items), is_item=True)]
        except StopIteration:
            self._active = None
            return [Delta(request_id, done=True)]
        except BaseException as error:
            self._active = None
            return [Delta(request_id, done=True, error=error)]

    def remove(self, id: str) -> None:
        if self._active is not None and self._active[0] == id:
            items = self._active[1]
            self._active = None
            getattr(items, "close", lambda: None)()
