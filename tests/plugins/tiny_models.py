"""Random models of each type, made from configs on the spot: small ones, and one of any shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "good", "bad", "day", "sea", "red", "tree"]
TINY_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
TINY_BERT: dict[str, Any] = {
    "dim": 16,
    "hidden_dim": 16,
    "n_layers": 1,
    "n_heads": 2,
    "max_position_embeddings": 16,
}


def vocabulary(size: int) -> list[str]:
    return WORDS + [f"w{n}" for n in range(size - len(WORDS))]


def tokenizer(words: list[str] = WORDS, **more: Any) -> Any:
    """Each word is a token, so that the text shows its tokens."""
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    options: dict[str, Any] = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "model_max_length": 16,
        **more,
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, **{k: v for k, v in options.items() if v is not None}
    )


def text_generator(folder: Path, device: str = "cpu", dtype: Any = None, **shape: Any) -> None:
    """A Llama that never ends by itself."""
    torch.manual_seed(0)
    words = vocabulary(shape.pop("vocab_size", 500))
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        bos_token_id=2,
        eos_token_id=None,
        initializer_range=0.2 if dtype is None else 0.02,
        **{**TINY_LLAMA, **shape},
    )
    with torch.device(device):
        make: Any = transformers.AutoModelForCausalLM.from_config
        make(config, dtype=dtype or torch.float32).save_pretrained(folder)
    longest = config.max_position_embeddings
    tokenizer(words, eos_token=None, model_max_length=longest).save_pretrained(folder)


def causal(folder: Path, config: Any) -> None:
    """Any causal language model, of the words of `vocabulary(config.vocab_size)`."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # Large enough for different texts.
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer(vocabulary(config.vocab_size), eos_token=None).save_pretrained(folder)


def classifier(folder: Path, **more: Any) -> None:
    torch.manual_seed(0)
    words = vocabulary(more.pop("vocab_size", len(WORDS)))
    labels = more.pop("labels", ["calm", "angry", "sad"])
    config = transformers.DistilBertConfig(
        vocab_size=len(words),
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
        **{**TINY_BERT, **more},
    )
    transformers.DistilBertForSequenceClassification(config).save_pretrained(folder)
    tokenizer(words, model_max_length=config.max_position_embeddings).save_pretrained(folder)


def captioner(folder: Path) -> None:
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
    tokenizer().save_pretrained(folder)


def painter(folder: Path) -> None:
    import diffusers

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
    tokenizer().save_pretrained(folder / "words")
    pipeline: Any = diffusers.StableDiffusionPipeline(
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
