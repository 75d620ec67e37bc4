"""Each engine's results in float32 against the library's own."""

from __future__ import annotations

import base64
import io
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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

NEW_TOKENS = 24
REQUESTS = 24
SMALL: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 2,
    "eos_token_id": None,
    "pad_token_id": 0,
}
CLOSE = 1e-3


def rows(folder: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    device = "cuda" if cuda else "cpu"
    for engine in (_text, _text_half, _classes, _captions, _pictures):
        (folder / engine.__name__).mkdir()
        try:
            yield from engine(folder / engine.__name__, device)
        except Exception:
            yield engine.__name__.strip("_"), last_lines(), False


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


@contextmanager
def _places() -> Iterator[set[str]]:
    """Data types and devices of the modules that are run meanwhile."""
    found: set[str] = set()

    def note(module: torch.nn.Module, *_: object) -> None:
        for weight in module.parameters(recurse=False):
            found.add(f"{str(weight.dtype).removeprefix('torch.')} on {weight.device}")

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def _named(places: set[str]) -> str:
    return ", ".join(sorted(places))


def _text(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    """Requests that join at random, against generate on the same device."""
    configs = {
        "llama": transformers.LlamaConfig(**SMALL),
        "qwen3": transformers.Qwen3Config(**SMALL, head_dim=32),
        "gpt2": transformers.GPT2Config(
            vocab_size=500, n_positions=1024, n_embd=64, n_layer=2, n_head=4, eos_token_id=None
        ),
    }
    for name, config in configs.items():
        try:
            yield from _joining(folder / name, device, name, config)
        except Exception:
            yield f"text-generation, {name}", last_lines(), False


def last_lines() -> str:
    return "\n".join(traceback.format_exc().splitlines()[-15:])


def _joining(folder: Path, device: str, name: str, config: Any) -> Iterator[tuple[str, str, bool]]:
    tiny_models.causal(folder, config)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to(device).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dice = random.Random(name)
    asked = []
    for _ in range(REQUESTS):
        length, first = dice.choice([1, 3, 17, 40, 300]), dice.choice([0, 5, 11])
        prompt = " ".join(f"w{(first + 7 * n) % 400}" for n in range(length))
        asked.append({"prompt": prompt, "max_new_tokens": dice.randint(1, 2 * NEW_TOKENS)})
    expected = []
    for one in asked:
        ids = tokenizer(one["prompt"], return_tensors="pt").input_ids.to(device)
        new = {"max_new_tokens": one["max_new_tokens"], "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **new)
        before, now = (tokenizer.decode(it[0], skip_special_tokens=True) for it in (ids, found))
        expected.append(now[len(before) :])
    engine = load(ModelType.TEXT_GENERATION, folder, device, dtype="float32", max_batch_size=8)
    for graphs in (True, False) if device == "cuda" else (False,):
        if not graphs:
            engine.decoder.graphs = None
        engine.pace.most = engine.pace.least = 64
        texts = joining(engine, asked, dice)
        equal = sum(text == wanted for text, wanted in zip(texts, expected, strict=True))
        seen = f"{equal} of {REQUESTS} texts equal; {decoder(engine)}"
        yield f"text-generation, {name}, joining and leaving", seen, equal == REQUESTS
    sampled = {"prompt": "good", "max_new_tokens": NEW_TOKENS, "temperature": 1.0, "seed": 7}
    again = engine.predict(sampled) == engine.predict(sampled)
    seen = f"{'the same' if again else 'another'} text"
    yield f"text-generation, {name}, the same seed twice", seen, again


def decoder(engine: Any) -> str:
    """What runs: which forward, and whether CUDA graphs do."""
    decoder = engine.decoder
    kind = type(getattr(decoder, "forward", decoder)).__name__
    graphs = getattr(decoder, "graphs", None)
    if graphs is None:
        return f"{kind}, no graphs"
    if graphs.failure is not None:
        return f"{kind}, CAPTURE FAILED: {graphs.failure}"
    return f"{kind}, {len(graphs.sizes)} graphs"


def joining(engine: Any, asked: list[dict[str, Any]], dice: random.Random) -> list[str]:
    texts, begun, active = [""] * len(asked), 0, 0
    while active or begun < len(asked):
        while begun < len(asked) and active < engine.slots and dice.random() < 0.5:
            engine.add(Request(str(begun), asked[begun]))
            begun, active = begun + 1, active + 1
        for delta in engine.step() if active else ():
            if delta.error is not None:
                raise delta.error
            texts[int(delta.id)] += delta.output or ""
            active -= delta.done
    return texts


def _text_half(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.text_generator(folder, dtype=torch.bfloat16)
    engine = load(ModelType.TEXT_GENERATION, folder, device)
    cache = engine.decoder.cache
    seen = f"{str(cache.dtype).removeprefix('torch.')} on {cache.device}; {decoder(engine)}"
    right = cache.dtype == torch.bfloat16 and cache.device == device
    yield "text-generation, dtype auto, saved in bfloat16", seen, right


def _classes(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.classifier(folder)
    engine = load(ModelType.CLASSIFICATION, folder, device, dtype="float32")
    texts = ["good day", "bad " * 99, "sea red tree"]
    with _places() as places:
        scores = engine.predict_batch([{"text": text} for text in texts])
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None, device="cpu")
    expected: Any = pipeline(texts, truncation=True, max_length=16)
    difference = max(
        abs(found["score"] - wanted["score"]) + (found["label"] != wanted["label"])
        for row, other in zip(scores, expected, strict=True)
        for found, wanted in zip(row, other, strict=True)
    )
    seen = f"labels and scores within {difference:.1e}; {_named(places)}"
    yield "classification, 3 texts", seen, difference < CLOSE


def _captions(folder: Path, device: str) -> Iterator[tuple[str, str, bool]]:
    tiny_models.captioner(folder)
    engine = load(ModelType.IMAGE_TO_TEXT, folder, device, dtype="float32")
    pictures = [Image.new("RGB", (40, 30), name) for name in ("red", "blue", "white")]
    with _places() as places:
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
    seen = f"texts {'equal' if texts == expected else 'differ'}; {_named(places)}"
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
    with _places() as places:
        url = engine.predict(inputs)
    url = url[0] if isinstance(url, list) else url
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    asked = {"num_inference_steps": 3, "width": 16, "height": 16}
    wanted = pipeline("red tree", generator=generator, **asked).images[0]
    difference = int(np.abs(np.asarray(picture, int) - np.asarray(wanted, int)).max())
    seen = f"within {difference} of 255; {_named(places)}"
    yield "text-to-image", seen, difference <= 2
