"""The other engines, with tiny random models made from configs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from inference_contract.modeltype import ModelType
from inference_runner.engines import images, registry
from inference_runner.engines.base import EngineError, EngineOptions, InputError

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "good", "bad", "day", "sea", "red", "tree"]


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=16,
    ).save_pretrained(folder)


def load(model_type: ModelType, folder: Path, **more: Any) -> Any:
    engine = registry.create(model_type, EngineOptions(path=folder, **more))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=len(WORDS),
        dim=16,
        hidden_dim=16,
        n_layers=1,
        n_heads=2,
        max_position_embeddings=16,
        id2label={0: "calm", 1: "angry", 2: "sad"},
        label2id={"calm": 0, "angry": 1, "sad": 2},
    )
    transformers.DistilBertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(folder)
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
    torch.manual_seed(0)
    encoder = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
    )
    decoder = transformers.GPT2Config(
        vocab_size=len(WORDS),
        n_positions=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=2,
        eos_token_id=3,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = 2
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    save_tokenizer(folder)
    return load(ModelType.IMAGE_TO_TEXT, folder)


def test_a_picture_becomes_text(captioner: Any) -> None:
    red, blue = (images.encode(Image.new("RGB", (40, 30), name)) for name in ("red", "blue"))
    texts = captioner.predict_batch(
        [{"image": red, "max_new_tokens": 4}, {"image": blue, "max_new_tokens": 2}]
    )
    assert len(texts[0].split()) <= 4
    assert len(texts[1].split()) <= 2
    assert set(" ".join(texts).split()) <= set(WORDS)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.com/a.png", "send a data: URL"),
        ("data:image/png,raw", "base64"),
        ("data:image/png;base64,!!", "cannot be read"),
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), "cannot be read"),
        (None, "send a data: URL"),
    ],
)
def test_what_is_not_a_picture_is_refused(url: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        images.decode(url)


def test_a_picture_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(InputError, match="more than 99 pixels"):
        images.decode(images.encode(Image.new("RGB", (10, 10))))


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import diffusers

    folder = tmp_path_factory.mktemp("painter")
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    save_tokenizer(folder / "words")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder / "words"),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return load(ModelType.TEXT_TO_IMAGE, folder)


def test_a_text_becomes_a_picture(painter: Any) -> None:
    inputs = {"prompt": "red tree", "num_inference_steps": 2, "width": 16, "height": 8, "seed": 3}
    url = painter.predict(inputs)
    picture = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert picture.size == (16, 8)
    assert painter.predict(inputs) == url


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
    save_tokenizer(tmp_path)
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
