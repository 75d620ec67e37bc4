"""Classification against transformers' own pipeline, with tiny random models of real shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers

from inference_contract.modeltype import ModelType
from inference_runner.engines import registry
from inference_runner.engines.base import EngineError, EngineOptions, InputError

TEXTS = ["good day", "bad " * 99, "sea", "red tree red tree good", "day"]
WORDS = len(tiny_models.WORDS)


def three_labels(folder: Path) -> None:
    tiny_models.classifier(folder)


def one_label(folder: Path) -> None:
    tiny_models.classifier(folder, labels=["spam"])


def regression(folder: Path) -> None:
    tiny_models.classifier(folder, labels=["stars"], problem_type="regression")


def several_labels_at_once(folder: Path) -> None:
    tiny_models.classifier(folder, problem_type="multi_label_classification")


def no_names_of_labels(folder: Path) -> None:
    tiny_models.classifier(folder, labels=[], num_labels=4)


def some_names_of_labels(folder: Path) -> None:
    tiny_models.classifier(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"1": "angry"', '"7": "angry"'))


def no_pad_token(folder: Path) -> None:
    """A decoder with a head: it reads the last token that is no padding."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(  # type: ignore[call-arg]  # what all configurations take
        vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=2, num_labels=3
    )
    transformers.GPT2ForSequenceClassification(config).save_pretrained(folder)
    tiny_models.tokenizer(pad_token=None).save_pretrained(folder)


def pad_token_of_the_tokenizer_alone(folder: Path) -> None:
    no_pad_token(folder)
    tiny_models.tokenizer().save_pretrained(folder)


def pad_token_of_the_model_alone(folder: Path) -> None:
    three_labels(folder)
    tiny_models.tokenizer(pad_token=None).save_pretrained(folder)


def roberta(folder: Path) -> None:
    """Of 18 positions 16 are of use, and the tokenizer knows of no limit."""
    torch.manual_seed(0)
    config = transformers.RobertaConfig(  # type: ignore[call-arg]  # what all configurations take
        vocab_size=WORDS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=18,
        pad_token_id=1,
        num_labels=3,
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    words = [tiny_models.WORDS[n] for n in (1, 0, *range(2, WORDS))]
    tiny_models.tokenizer(words, model_max_length=None).save_pretrained(folder)


def without_positions(folder: Path) -> None:
    """Bloom counts distances: it has no longest text."""
    torch.manual_seed(0)
    config = transformers.BloomConfig(  # type: ignore[call-arg]  # what all configurations take
        vocab_size=WORDS, hidden_size=16, n_layer=1, n_head=2, pad_token_id=0, num_labels=3
    )
    transformers.BloomForSequenceClassification(config).save_pretrained(folder)
    tiny_models.tokenizer(model_max_length=None).save_pretrained(folder)


MODELS = [
    three_labels,
    one_label,
    regression,
    several_labels_at_once,
    no_names_of_labels,
    no_pad_token,
    pad_token_of_the_tokenizer_alone,
    pad_token_of_the_model_alone,
    roberta,
]


def load(folder: Path) -> Any:
    engine = registry.create(ModelType.CLASSIFICATION, EngineOptions(path=folder))
    engine.load()
    return engine


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_labels_and_scores_are_those_of_the_pipeline(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path)
    pipeline = transformers.pipeline("text-classification", str(tmp_path), top_k=None, device="cpu")
    expected: Any = pipeline(TEXTS, truncation=True, max_length=16)
    together = load(tmp_path).predict_batch([{"text": text} for text in TEXTS])
    assert [[item["label"] for item in row] for row in together] == [
        [item["label"] for item in row] for row in expected
    ]
    for row, other in zip(together, expected, strict=True):
        wanted = pytest.approx([item["score"] for item in other], abs=1e-5)
        assert [item["score"] for item in row] == wanted


def test_the_score_of_one_label_depends_on_the_text(tmp_path: Path) -> None:
    one_label(tmp_path)
    scores = [row[0]["score"] for row in load(tmp_path).predict_batch([{"text": t} for t in TEXTS])]
    assert len(set(scores)) > 1
    assert all(0 < score < 1 for score in scores)


def test_a_label_without_a_name_has_its_number(tmp_path: Path) -> None:
    some_names_of_labels(tmp_path)
    labels = {item["label"] for item in load(tmp_path).predict({"text": "good"})}
    assert labels == {"calm", "LABEL_1", "sad"}


def test_a_model_without_positions_takes_long_texts(tmp_path: Path) -> None:
    without_positions(tmp_path)
    assert len(load(tmp_path).predict({"text": "bad " * 3000})) == 3


def test_a_model_that_lacks_its_head_does_not_load(tmp_path: Path) -> None:
    config = transformers.DistilBertConfig(vocab_size=WORDS, **tiny_models.TINY_BERT)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="lacks 4 weights of a DistilBertForSequenceClassif"):
        load(tmp_path)


def test_a_model_that_fails_on_every_text_does_not_load(tmp_path: Path) -> None:
    tiny_models.classifier(tmp_path, vocab_size=WORDS)
    tiny_models.tokenizer([*tiny_models.WORDS, "text", "A", "longer"]).save_pretrained(tmp_path)
    with pytest.raises(IndexError):
        load(tmp_path)


def test_a_text_without_a_token_is_refused(tmp_path: Path) -> None:
    three_labels(tmp_path)
    with pytest.raises(InputError, match="text is empty"):
        load(tmp_path).predict({"text": " "})


@contextmanager
def forward_passes() -> Iterator[list[torch.nn.Module]]:
    """Classifiers, once for each pass through them."""
    kinds = (
        transformers.DistilBertForSequenceClassification,
        transformers.GPT2ForSequenceClassification,
    )
    seen: list[torch.nn.Module] = []

    def note(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, kinds):
            seen.append(module)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    yield seen
    hook.remove()


@pytest.mark.parametrize(
    ("make", "forwards"),
    [
        (pad_token_of_the_tokenizer_alone, 1),
        (pad_token_of_the_model_alone, 1),
        (no_pad_token, 2),
    ],
    ids=lambda made: getattr(made, "__name__", ""),
)
def test_a_batch_is_one_forward_if_a_token_fills_it_up(
    tmp_path: Path, make: Callable[[Path], None], forwards: int
) -> None:
    make(tmp_path)
    engine = load(tmp_path)
    with forward_passes() as seen:
        engine.predict_batch([{"text": "A text."}, {"text": "A longer text."}])
    assert len(seen) == forwards
