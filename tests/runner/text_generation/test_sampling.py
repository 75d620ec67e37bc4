"""Which token comes next: the same chances as in transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_runner.engines.text_generation import sampling
from inference_runner.engines.text_generation.options import TextOptions
from inference_runner.engines.text_generation.penalties import Seen, penalize
from inference_runner.engines.text_generation.sampling import Sampler

DRAWS = 4000
LOGITS = torch.tensor([0.5, 0.2, 0.18, 0.07, 0.05]).log()


def options(**more: Any) -> TextOptions:
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 7}
    return TextOptions(max_new_tokens=9, stop=(), **{**plain, **more})


def expected(wanted: TextOptions) -> list[float]:
    """The chances of each token, by transformers' own processors, in its order."""
    processors = transformers.LogitsProcessorList(
        [transformers.TemperatureLogitsWarper(wanted.temperature)]
    )
    if wanted.top_k:
        processors.append(transformers.TopKLogitsWarper(wanted.top_k))
    if wanted.top_p < 1:
        processors.append(transformers.TopPLogitsWarper(wanted.top_p))
    if wanted.min_p:
        processors.append(transformers.MinPLogitsWarper(wanted.min_p))
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
        options(min_p=0.2),
        options(min_p=0.5),
        options(temperature=0.5, top_k=4, top_p=0.9, min_p=0.03),
    ],
    ids=lambda o: f"{o.temperature}-{o.top_k}-{o.top_p}-{o.min_p}",
)
def test_every_token_comes_as_often_as_it_shall(wanted: TextOptions) -> None:
    drawn = sampling.choose(LOGITS.expand(DRAWS, -1), [Sampler(wanted)] * DRAWS)
    chances = expected(wanted)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(chances)).tolist()
    assert [count / DRAWS for count in counts] == pytest.approx(chances, abs=0.03)
    assert [count > 0 for count in counts] == [chance > 0 for chance in chances]


@pytest.mark.parametrize(("spread", "least"), [(0.3, 1500), (1.6, 500), (4.0, 10)])
def test_top_p_leaves_the_same_of_many_tokens_however_many_that_are(
    spread: float, least: int
) -> None:
    logits = spread * torch.linspace(3, -3, 3000)
    warper = transformers.TopPLogitsWarper(0.95)
    kept = int(warper(torch.LongTensor([[0]]), logits[None]).isfinite().sum())
    assert kept > least
    rows = [Sampler(options(top_p=0.95, seed=seed)) for seed in range(1000)]
    drawn = torch.tensor(sampling.choose(logits.expand(1000, -1), rows))
    assert 0.9 * kept < drawn.max() < kept + 1


def test_the_seed_alone_decides() -> None:
    def draw(seed: int) -> list[int | Exception]:
        sampler = Sampler(options(seed=seed))
        return [sampling.choose(torch.zeros((1, 1000)), [sampler])[0] for _ in range(20)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_temperature_makes_a_large_score_infinite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.0, 1e38, 9e37]], dtype=dtype)
    assert sampling.choose(logits, [Sampler(options(temperature=1e-5))]) == [1]


def test_what_cannot_be_drawn_is_a_matter_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Sampler(options())
    error = RuntimeError("of one row")

    def draw() -> float:
        raise error

    monkeypatch.setattr(wrong, "draw", draw)
    logits = torch.tensor([[0.0, 9e9], [0.0, 9e9], [9e9, 0.0]])
    rows = [Sampler(options()), wrong, Sampler(options())]
    assert sampling.choose(logits, rows) == [1, error, 0]


def test_scores_that_are_no_numbers_are_a_matter_of_their_row() -> None:
    logits = torch.zeros((6, 300))
    logits[1, 5], logits[2], logits[3, 7], logits[4] = math.nan, -math.inf, math.inf, math.nan
    logits[0, 9] = logits[5, 9] = 99.0
    for wanted in (options(), options(top_p=0.5), options(temperature=0), options(min_p=0.1)):
        chosen = sampling.choose(logits, [Sampler(wanted) for _ in logits])
        assert (chosen[0], chosen[5]) == (9, 9)
        assert [str(one) for one in chosen[1:5]] == [sampling.NO_NUMBERS] * 4


def asked() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
            "top_k": st.sampled_from([0, 1, 2, 40, 5000]),
            "top_p": st.sampled_from([0.0, 0.3, 0.9, 1.0]),
            "min_p": st.sampled_from([0.0, 0.02, 0.5]),
            "repetition_penalty": st.sampled_from([0.5, 1.0, 1.3]),
            "frequency_penalty": st.sampled_from([-1.0, 0.0, 1.5]),
            "presence_penalty": st.sampled_from([0.0, 1.0]),
            "min_new_tokens": st.sampled_from([0, 3]),
            "seed": st.integers(0, 2**64 - 1),
        }
    )


@settings(deadline=None, max_examples=50)
@given(
    asked=st.lists(asked(), min_size=2, max_size=6),
    size=st.sampled_from([100, 1000, 1280, 3000]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_row_chooses_among_others_what_it_chooses_alone(
    asked: list[dict[str, Any]], size: int, dtype: torch.dtype
) -> None:
    scores = torch.randn((4, len(asked), size), generator=torch.Generator().manual_seed(size))
    scores = (3 * scores).to(dtype)
    rows = [Sampler(options(**one), range(20), frozenset([3])) for one in asked]
    alone = [Sampler(options(**one), range(20), frozenset([3])) for one in asked]
    for step in scores:
        together = sampling.choose(step, rows)
        assert together == [
            sampling.choose(step[at : at + 1], [one])[0] for at, one in enumerate(alone)
        ]


def test_scores_are_not_written_to() -> None:
    logits = torch.randn((2, 256), generator=torch.Generator().manual_seed(7))
    before = logits.clone()
    wanted = options(top_p=0.5, repetition_penalty=2.0, min_new_tokens=1)
    sampling.choose(logits, [Sampler(wanted, range(9), frozenset([3]))] * 2)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_is_penalized_as_transformers_does(penalty: float) -> None:
    scores = torch.randn((1, 50), generator=torch.Generator().manual_seed(7))
    prompt, said = [3, 8, 8, 9], [4, 3, 11]
    seen = Seen(prompt)
    for token in said:
        seen.add(token)
    processor = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    wanted = processor(torch.LongTensor([prompt + said]), scores)
    penalize(scores, [(0, seen, options(repetition_penalty=penalty))])
    assert torch.allclose(scores, wanted)


def test_frequency_and_presence_count_what_was_said_and_not_the_prompt() -> None:
    scores = torch.zeros((2, 6))
    seen = Seen([1, 2])
    for token in (2, 3, 3, 3):
        seen.add(token)
    penalize(scores, [(1, seen, options(frequency_penalty=0.5, presence_penalty=0.25))])
    assert scores.tolist() == [[0.0] * 6, [0.0, 0.0, -0.75, -1.75, 0.0, 0.0]]


def test_an_end_does_not_come_before_the_least_tokens() -> None:
    logits = torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    for temperature in (0.0, 0.01):
        wanted = options(temperature=temperature, min_new_tokens=2)
        sampler = Sampler(wanted, (), frozenset([2, 3]))
        assert [sampling.choose(logits, [sampler])[0] for _ in range(3)] == [0, 0, 2]


def test_logprobs_are_the_models_own() -> None:
    logits = torch.randn((4, 300), generator=torch.Generator().manual_seed(7))
    logits[2, 9] = -math.inf
    wanted = [
        options(logprobs=2, temperature=2.0, repetition_penalty=3.0),
        options(),
        options(logprobs=20, temperature=0),
        options(logprobs=0),
    ]
    rows = [Sampler(one, [5]) for one in wanted]
    chosen = sampling.choose(logits, rows)
    expected = logits.log_softmax(-1)
    assert rows[1].logprobs is None
    for at, count in ((0, 2), (2, 20), (3, 0)):
        told = rows[at].logprobs
        token = chosen[at]
        assert told is not None
        assert isinstance(token, int)
        assert told.chosen == pytest.approx(float(expected[at, token]), abs=1e-5)
        top = expected[at].topk(count)
        assert [one for one, _ in told.top] == top.indices.tolist()
        assert [chance for _, chance in told.top] == pytest.approx(top.values.tolist(), abs=1e-5)


def test_a_token_that_cannot_come_has_the_least_logprob() -> None:
    logits = torch.tensor([[0.0, -math.inf, -math.inf]])
    sampler = Sampler(options(logprobs=9))
    assert sampling.choose(logits, [sampler]) == [0]
    assert sampler.logprobs is not None
    assert [chance for _, chance in sampler.logprobs.top] == [0.0, -9999.0, -9999.0]


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_chance_choose_a_token_that_may_come(
    number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.full((1, 500), -math.inf)
    logits[0, [130, 140, 399]] = torch.tensor([0.0, -3.0, 1.0])
    sampler = Sampler(options())
    monkeypatch.setattr(sampler, "draw", lambda: number)
    assert sampling.choose(logits, [sampler]) == [130 if number == 0 else 399]


@pytest.mark.parametrize("size", [128, 384, 100])
def test_the_best_is_the_best_however_large_the_vocabulary(size: int) -> None:
    logits = torch.rand((4, size), generator=torch.Generator().manual_seed(7))
    tokens, scores = sampling.greedy(logits)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    assert scores.tolist() == logits.amax(-1).tolist()
