"""Each engine's results in float32 against the library's own on the CPU."""

from __future__ import annotations

import base64
import io
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiny_models
import torch
import transformers
from PIL import Image

from inference_contract.modeltype import ModelType
from inference_runner.engines import images, registry
from inference_runner.engines.base import EngineOptions, Request

PROMPTS = ["good day", "red tree sea bad", "w7 " * 100, "bad w1 w2 w3 w4 w5"]
NEW_TOKENS = 24
CLOSE = 1e-3


def rows(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    device = "cuda" if cuda else "cpu"
    for engine in (_text, _text_half, _classes, _captions, _pictures):
        (folder / engine.__name__).mkdir()
        try:
            yield from engine(folder / engine.__name__, device)
        except Exception as error:
            traceback.print_exc()
            yield engine.__name__.strip("_"), f"{type(error).__name__}: {error}", False


def load(model_type: ModelType, folder: Path, device: str, **more: Any) -> Any:
    engine = registry.create(model_type, EngineOptions(path=folder, device=device, **more))
    engine.load()
    return engine


def together(engine: Any, inputs: list[dict[str, Any]]) -> list[str]:
    """The texts of requests that are taken in at once."""
    for number, one in enumerate(inputs):
        engine.add(Request(str(number), one))
    texts, active = [""] * len(inputs), len(inputs)
    while active:
        for delta in engine.step():
            if delta.error is not None:
                raise delta.error
            texts[int(delta.id)] += delta.output or ""
            active -= delta.done
    return texts


def _where(model: Any) -> str:
    return f"{str(model.dtype).removeprefix('torch.')} on {model.device}"


def _text(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.text_generator(folder)
    engine = load(ModelType.TEXT_GENERATION, folder, device, dtype="float32")
    inputs = [{"prompt": prompt, "max_new_tokens": NEW_TOKENS} for prompt in PROMPTS]
    texts = together(engine, inputs)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    equal, difference = 0, 0.0
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
            logits = engine._model(ids.to(device)).logits.cpu() - model(ids).logits
        before, now = (tokenizer.decode(one[0], skip_special_tokens=True) for one in (ids, found))
        equal += text == now[len(before) :]
        difference = max(difference, float(logits.abs().max()))
    seen = f"{equal} of {len(PROMPTS)} texts equal, logits within {difference:.1e}"
    right = equal == len(PROMPTS) and difference < CLOSE
    yield "text-generation, 4 at once", f"{seen}; {_where(engine._model)}", right
    sampled = {"prompt": "good", "max_new_tokens": NEW_TOKENS, "temperature": 1.0, "seed": 7}
    again = engine.predict(sampled) == engine.predict(sampled)
    yield (
        "text-generation, the same seed twice",
        f"{'the same' if again else 'another'} text",
        again,
    )


def _text_half(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.text_generator(folder, dtype=torch.bfloat16)
    engine = load(ModelType.TEXT_GENERATION, folder, device)
    right = engine._model.dtype == torch.bfloat16 and engine._model.device.type == device
    yield "text-generation, dtype auto, saved in bfloat16", _where(engine._model), right


def _classes(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.classifier(folder)
    engine = load(ModelType.CLASSIFICATION, folder, device, dtype="float32")
    texts = ["good day", "bad " * 99, "sea red tree"]
    scores = engine.predict_batch([{"text": text} for text in texts])
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None, device="cpu")
    expected: Any = pipeline(texts, truncation=True, max_length=16)
    difference = max(
        abs(found["score"] - wanted["score"]) + (found["label"] != wanted["label"])
        for row, other in zip(scores, expected, strict=True)
        for found, wanted in zip(row, other, strict=True)
    )
    seen = f"labels and scores within {difference:.1e}; {_where(engine._model)}"
    yield "classification, 3 texts", seen, difference < CLOSE


def _captions(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.captioner(folder)
    engine = load(ModelType.IMAGE_TO_TEXT, folder, device, dtype="float32")
    pictures = [Image.new("RGB", (40, 30), name) for name in ("red", "blue", "white")]
    texts = engine.predict_batch(
        [{"image": images.encode(picture), "max_new_tokens": 8} for picture in pictures]
    )
    model = transformers.VisionEncoderDecoderModel.from_pretrained(folder).eval()
    processor = transformers.ViTImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = processor(pictures, return_tensors="pt").pixel_values
    with torch.inference_mode():
        found = model.generate(pixel_values=pixels, max_new_tokens=8, do_sample=False)
    expected = [text.strip() for text in tokenizer.batch_decode(found, skip_special_tokens=True)]
    seen = f"texts {'equal' if texts == expected else 'differ'}; {_where(engine._model)}"
    yield "image-to-text, 3 pictures", seen, texts == expected


def _pictures(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    try:
        import diffusers
    except ModuleNotFoundError as error:
        yield "text-to-image", f"skipped: {error.name} is not installed", True
        return
    tiny_models.painter(folder)
    engine = load(ModelType.TEXT_TO_IMAGE, folder, device, dtype="float32")
    inputs = {"prompt": "red tree", "num_inference_steps": 3, "width": 16, "height": 16, "seed": 3}
    url = engine.predict(inputs)
    url = url[0] if isinstance(url, list) else url
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    asked = {"num_inference_steps": 3, "width": 16, "height": 16}
    wanted = pipeline("red tree", generator=generator, **asked).images[0]
    difference = int(np.abs(np.asarray(picture, int) - np.asarray(wanted, int)).max())
    where = f"{str(engine._pipeline.dtype).removeprefix('torch.')} on {engine._pipeline.device}"
    yield "text-to-image", f"within {difference} of 255; {where}", difference <= 2
