"""The other engines, with tiny random models made from configs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny_models
import torch
import transformers
from diffusers import AutoencoderKL
from PIL import Image

from inference_contract.inferencemodel import InferenceModelSpec
from inference_contract.modeltype import ModelType
from inference_gateway.models.openapi import openapi_schema
from inference_runner.engines import images, registry
from inference_runner.engines.base import EngineError, EngineOptions, InputError


def load(model_type: ModelType, folder: Path, **more: Any) -> Any:
    engine = registry.create(model_type, EngineOptions(path=folder, **more))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("classifier")
    tiny_models.classifier(folder)
    return load(ModelType.CLASSIFICATION, folder)


def test_labels_come_by_score(classifier: Any) -> None:
    (first, second) = classifier.predict_batch([{"text": "good day"}, {"text": "bad " * 99}])
    assert {item["label"] for item in first} == {"calm", "angry", "sad"}
    scores = [item["score"] for item in second]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)


def test_a_batch_changes_no_score(classifier: Any) -> None:
    alone = classifier.predict({"text": "good day"})
    beside = classifier.predict_batch([{"text": "good day"}, {"text": "sea " * 9}])[0]
    assert [item["score"] for item in beside] == pytest.approx([i["score"] for i in alone])


def test_a_text_that_is_none_is_refused(classifier: Any) -> None:
    with pytest.raises(InputError, match="text must be a string"):
        classifier.predict({"text": 1})


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("captioner")
    tiny_models.captioner(folder)
    return load(ModelType.IMAGE_TO_TEXT, folder)


def test_a_picture_becomes_text(captioner: Any) -> None:
    red, blue = (images.encode(Image.new("RGB", (40, 30), name)) for name in ("red", "blue"))
    texts = captioner.predict_batch(
        [{"image": red, "max_new_tokens": 4}, {"image": blue, "max_new_tokens": 2}]
    )
    assert len(texts[0].split()) <= 4
    assert len(texts[1].split()) <= 2
    assert set(" ".join(texts).split()) <= set(tiny_models.WORDS)


def test_a_picture_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(InputError, match="more than 99 pixels"):
        images.decode(images.encode(Image.new("RGB", (10, 10))))


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("painter")
    tiny_models.painter(folder)
    return load(ModelType.TEXT_TO_IMAGE, folder)


def test_a_text_becomes_a_picture(painter: Any) -> None:
    inputs = {"prompt": "red tree", "num_inference_steps": 2, "width": 16, "height": 8, "seed": 3}
    url = painter.predict(inputs)
    picture = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert picture.size == (16, 8)
    assert painter.predict(inputs) == url


def test_a_black_picture_of_nan_is_an_error(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = AutoencoderKL.decode

    def broken(*arguments: Any, **more: Any) -> Any:
        found = decode(*arguments, **more)
        found[0][..., 0, 0] = torch.nan
        return found

    monkeypatch.setattr(AutoencoderKL, "decode", broken)
    with pytest.raises(FloatingPointError, match="pixels are NaN"):
        painter.predict({"prompt": "red tree", "num_inference_steps": 1, "width": 16})


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30, 3.0])
def test_any_integer_seeds_a_picture(painter: Any, seed: Any) -> None:
    inputs = {"prompt": "red tree", "num_inference_steps": 1, "width": 8, "height": 8}
    assert painter.predict({**inputs, "seed": seed}).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("engine", "inputs"),
    [
        ("classifier", {"text": "good day"}),
        ("captioner", {"image": images.encode(Image.new("RGB", (9, 9)))}),
        ("painter", {"prompt": "red tree", "num_inference_steps": 1, "width": 8, "height": 8}),
    ],
)
def test_an_output_is_what_the_version_declares(
    engine: str, inputs: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    kinds = {
        "classifier": ModelType.CLASSIFICATION,
        "captioner": ModelType.IMAGE_TO_TEXT,
        "painter": ModelType.TEXT_TO_IMAGE,
    }
    source = {"path": "/models/m"}
    spec = InferenceModelSpec.model_validate({"type": kinds[engine], "source": source})
    declared = openapi_schema(spec)["components"]["schemas"]["Output"]
    assert declared["type"]
    jsonschema.validate(request.getfixturevalue(engine).predict(inputs), declared)


def test_a_caption_ends_with_the_positions_of_its_decoder(captioner: Any) -> None:
    picture = images.encode(Image.new("RGB", (9, 9), "red"))
    assert captioner.predict({"image": picture, "max_new_tokens": 4096}) is not None


def test_a_width_that_no_model_paints_is_refused(painter: Any) -> None:
    with pytest.raises(InputError, match="width must be a multiple of 8, not 13"):
        painter.predict({"prompt": "red tree", "width": 13})


@pytest.mark.parametrize(
    "model_type", [t for t in ModelType if t is not ModelType.CUSTOM], ids=lambda t: t.value
)
def test_an_empty_folder_is_not_a_model(model_type: ModelType, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not a model: it has no"):
        load(model_type, tmp_path)


def test_weights_that_are_not_safetensors_are_not_loaded(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1)
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    model = transformers.GPT2LMHeadModel(config)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(EngineError, match="is not a model that loads"):
        load(ModelType.TEXT_GENERATION, tmp_path)


def test_a_gpu_that_is_not_there_is_told(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="torch sees no GPU"):
        load(ModelType.CLASSIFICATION, tmp_path, device="cuda")
