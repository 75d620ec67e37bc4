"""Which token comes next: the same chances as in transformers."""

from __future__ import annotations

import pytest
import torch
import transformers

from inference_runner.engines.text_generation import sampling
from inference_runner.engines.text_generation.options import TextOptions

DRAWS = 4000
LOGITS = torch.tensor([0.5, 0.2, 0.18, 0.07, 0.05]).log()


def options(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> TextOptions:
    return TextOptions(
        max_new_tokens=1, temperature=temperature, top_p=top_p, top_k=top_k, seed=0, stop=()
    )


def expected(wanted: TextOptions) -> list[float]:
    """The chances of each token, by transformers' own processors, in its order."""
    processors = transformers.LogitsProcessorList(
        [transformers.TemperatureLogitsWarper(wanted.temperature)]
    )
    if wanted.top_k:
        processors.append(transformers.TopKLogitsWarper(wanted.top_k))
    if wanted.top_p < 1:
        processors.append(transformers.TopPLogitsWarper(wanted.top_p))
    found: list[float] = processors(torch.LongTensor([[0]]), LOGITS[None]).softmax(-1)[0].tolist()
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        options(),
        options(temperature=0.5),
        options(temperature=2.0),
        options(top_k=2),
        options(top_k=9),
        options(top_p=0.6),
        options(top_p=0.4),
        options(top_p=0.0),
        options(temperature=2.0, top_k=4, top_p=0.7),
    ],
    ids=lambda o: f"{o.temperature}-{o.top_k}-{o.top_p}",
)
def test_every_token_comes_as_often_as_it_shall(wanted: TextOptions) -> None:
    generator = torch.Generator().manual_seed(7)
    drawn = [sampling.sample(LOGITS, wanted, generator) for _ in range(DRAWS)]
    chances = expected(wanted)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(chances)).tolist()
    assert [count / DRAWS for count in counts] == pytest.approx(chances, abs=0.03)
    assert [count > 0 for count in counts] == [chance > 0 for chance in chances]


def test_the_generator_alone_decides() -> None:
    def draw() -> list[int]:
        generator = torch.Generator().manual_seed(7)
        return [sampling.sample(torch.zeros(1000), options(), generator) for _ in range(20)]

    assert draw() == draw()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_temperature_makes_a_large_score_infinite(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, 1e38, 9e37], dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    assert sampling.sample(logits, options(temperature=1e-5), generator) == 1


def test_what_cannot_be_drawn_is_a_matter_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, wrong = torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)
    error = RuntimeError("of one row")
    original = sampling.sample

    def sample(row: torch.Tensor, wanted: TextOptions, by: torch.Generator) -> int:
        if by is wrong:
            raise error
        return original(row, wanted, by)

    monkeypatch.setattr(sampling, "sample", sample)
    logits = torch.tensor([[0.0, 9e9], [0.0, 9e9], [9e9, 0.0]])
    rows = [(options(), generator), (options(), wrong), (options(), generator)]
    assert sampling.choose(logits, rows) == [1, error, 0]


@pytest.mark.parametrize("size", [128, 384, 100])
def test_the_best_is_the_best_however_large_the_vocabulary(size: int) -> None:
    logits = torch.rand((4, size), generator=torch.Generator().manual_seed(7))
    tokens, scores = sampling.greedy(logits)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    assert scores.tolist() == logits.amax(-1).tolist()
