"""The next token of each row.

All rows are sampled at once, on the device of the logits; one transfer returns the tokens.
A row's token depends on its own scores, options and seed only, whatever other rows are in the
batch: each sampled token uses one of its random numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from inference_runner.engines.text_generation.options import TextOptions
from inference_runner.engines.text_generation.penalties import Seen, penalize
from inference_runner.engines.text_generation.structured_output import Grammar, constrain

_BLOCK = 128
LEAST_LOGPROB = -9999.0
"""Reported for a token of probability 0: JSON has no infinity."""
NO_NUMBERS = "the model's scores for the next token are NaN or infinite"


@dataclass(frozen=True)
class Logprobs:
    """Log probabilities of one chosen token, before temperature, penalties and grammar."""

    chosen: float
    top: list[tuple[int, float]]
    """The likeliest tokens, the likeliest first."""


class Sampler:
    """Chooses the tokens of one text; later choices depend on the chosen tokens.

    Args:
        prompt: its tokens, for the repetition penalty.
        ends: tokens that are forbidden before options.min_new_tokens tokens.
        grammar: the format of the text; None: any text.
    """

    def __init__(
        self,
        options: TextOptions,
        prompt: Sequence[int] = (),
        ends: frozenset[int] = frozenset(),
        grammar: Grammar | None = None,
    ) -> None:
        self.options = options
        self.tokens = 0
        """Number of chosen tokens."""
        self._ends = sorted(ends)
        self._random = random.Random(options.seed)
        self.grammar = grammar
        self.logprobs: Logprobs | None = None
        """Log probabilities of the last token, if options.logprobs asks for them."""
        self.seen = Seen(prompt) if options.has_penalties else None

    @property
    def is_plain(self) -> bool:
        """Whether it chooses the likeliest token by unchanged scores."""
        changes = self.seen is not None or self.grammar is not None or self.forbidden
        return self.options.is_greedy and not changes

    @property
    def forbidden(self) -> list[int]:
        return self._ends if self.tokens < self.options.min_new_tokens else []

    def draw(self) -> float:
        """A random number from 0 to below 1."""
        return self._random.random()

    @property
    def is_complete(self) -> bool:
        """Whether only an end token is allowed."""
        return self.grammar is not None and self.grammar.is_complete

    def accept(self, token: int) -> None:
        self.tokens += 1
        if self.grammar is not None:
            self.grammar.accept(token)
        if self.seen is not None:
            self.seen.add(token)


def choose(logits: torch.Tensor, rows: Sequence[Sampler]) -> list[int | Exception]:
    """For each row of [rows, vocabulary] its token, or an error, which does not affect the other
    rows. `logits` are not changed."""
    errors: dict[int, Exception] = {}
    if all(row.is_plain for row in rows):
        scores = logits
    else:
        scores = logits.to(torch.float32, copy=True)
        _forbid(scores, rows)
        penalize(scores, [(at, row.seen, row.options) for at, row in enumerate(rows) if row.seen])
        errors = constrain(scores, {at: row.grammar for at, row in enumerate(rows) if row.grammar})
    tokens, best = greedy(scores)
    drawn, numbers = _draw(rows, errors)
    if drawn:
        some = torch.tensor(drawn, device=scores.device)
        mine = scores if len(drawn) == len(rows) else scores[some]
        sampled = sample(mine, best[some], [rows[at].options for at in drawn], numbers)
        tokens = tokens.index_copy(0, some, sampled)
    chances = _chances(logits, tokens, rows)
    # The only transfer from the device.
    found = torch.cat([tokens.double()[:, None], best.double()[:, None], chances], -1).cpu()
    chosen: list[int | Exception] = [int(token) for token in found[:, 0].tolist()]
    for at, sound in enumerate(found[:, 1].isfinite().tolist()):
        token = chosen[at]
        if at in errors:
            chosen[at] = errors[at]
        elif not sound:
            chosen[at] = FloatingPointError(NO_NUMBERS)
        elif isinstance(token, int):
            try:
                rows[at].accept(token)
                if (count := rows[at].options.logprobs) is not None:
                    rows[at].logprobs = _read_logprobs(found[at, 2:], count)
            except Exception as error:
                chosen[at] = error
    return chosen


def greedy(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, vocabulary] → the best token of each row, and its score, which is NaN if any is.

    In blocks, since argmax over a large bfloat16 row is slow on CPUs (3.0 ms for 32 rows of 49,152;
    in blocks 0.6 ms)."""
    rows, size = logits.shape
    if size % _BLOCK:
        found = logits.max(-1)
        return found.indices, found.values
    blocks = logits.view(rows, size // _BLOCK, _BLOCK)
    values, best = blocks.amax(-1).max(-1)
    inside = blocks[torch.arange(rows, device=logits.device), best].argmax(-1)
    return best * _BLOCK + inside, values


def sample(
    scores: torch.Tensor,
    best: torch.Tensor,
    options: Sequence[TextOptions],
    numbers: Sequence[float],
) -> torch.Tensor:
    """One token for each row of [rows, vocabulary]: temperature, then top-k, top-p and min-p.

    Args:
        scores: float32; overwritten.
        best: the largest of each row.
        numbers: for each row a random number from 0 to below 1.
    """
    device = scores.device
    table = [[o.temperature, o.min_p, n] for o, n in zip(options, numbers, strict=True)]
    warmth, least, number = torch.tensor(table, dtype=torch.float64, device=device).unbind(-1)
    # The best score becomes 0, so that no temperature makes it infinite, and its weight 1.
    weights = scores.sub_(best[:, None]).div_(warmth.float()[:, None]).exp_()
    least = least.float()
    cut = [at for at, o in enumerate(options) if o.top_k or o.top_p < 1]
    if cut:
        some = torch.tensor(cut, device=device)
        mine = weights if len(cut) == len(options) else weights[some]
        smallest = _smallest_kept(mine, [options[at] for at in cut])
        least = least.index_put((some,), torch.maximum(least[some], smallest))
    if cut or any(o.min_p for o in options):
        weights.masked_fill_(weights < least[:, None], 0.0)
    return _pick(weights, number)


def _pick(weights: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """The index where the running sum of a row's weights reaches this share of their total. In
    blocks, so that most of the sums are short."""
    padded = F.pad(weights, (0, -weights.shape[-1] % _BLOCK))
    blocks = padded.view(len(weights), -1, _BLOCK)
    block, rest = _reach(blocks.sum(-1), number, None)
    every = torch.arange(len(weights), device=weights.device)
    inside, _ = _reach(blocks[every, block], number, rest)
    # Rows of NaN never reach the target, and padding is beyond the row's end.
    return (block * _BLOCK + inside).clamp_(max=weights.shape[-1] - 1)


def _reach(
    weights: torch.Tensor, number: torch.Tensor, target: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first index of each row where the running sum is above the target, and the difference of
    the target and the sum before that index. The weight at the index is above 0."""
    sums = weights.double().cumsum(-1)
    total = sums[:, -1]
    if target is None:
        target = number * total
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(sums, target[:, None], right=True).clamp_(max=sums.shape[-1] - 1)
    before = (sums - weights).gather(-1, place)
    return place[:, 0], (target - before[:, 0]).clamp_(min=0)


def _smallest_kept(weights: torch.Tensor, options: Sequence[TextOptions]) -> torch.Tensor:
    """The smallest weight of each row that top-k and top-p keep. Equal ones are kept together."""
    device, size = weights.device, weights.shape[-1]
    most = [min(o.top_k or size, size) for o in options]
    ordered = _largest(weights, max(most))
    first = torch.tensor([max(most) - k for k in most], device=device)
    by_k = ordered.gather(-1, first[:, None])
    if all(o.top_p >= 1 for o in options):
        return by_k[:, 0]
    # Weights are removed from the smallest on, while their sum is at most 1 - top_p of the total.
    rest = torch.tensor([1 - o.top_p for o in options], dtype=torch.float64, device=device)
    ordered.masked_fill_(ordered < by_k, 0.0)
    return ordered.gather(-1, _pick(ordered, rest)[:, None])[:, 0]


def _largest(weights: torch.Tensor, count: int) -> torch.Tensor:
    """The largest of each row, in ascending order.

    On a CPU with numpy, whose vectorised sort takes a tenth of torch's time."""
    if weights.device.type != "cpu":
        return weights.sort(-1).values[:, -count:].contiguous()
    found = weights.numpy()
    if count < found.shape[-1]:
        found = np.partition(found, -count, -1)[:, -count:]
    return torch.from_numpy(np.sort(found, -1))


def _chances(logits: torch.Tensor, tokens: torch.Tensor, rows: Sequence[Sampler]) -> torch.Tensor:
    """[rows, 1 + 2 n]: the logarithm of each token's probability, and the n likeliest tokens with
    theirs; no columns if no row asks for any."""
    asked = {at: row.options.logprobs for at, row in enumerate(rows)}
    counts = {at: count for at, count in asked.items() if count is not None}
    if not counts:
        return logits.new_zeros((len(rows), 0), dtype=torch.float64)
    most = min(max(counts.values()), logits.shape[-1])
    some = torch.tensor(list(counts), device=logits.device)
    chances = logits[some].float().log_softmax(-1)
    top = chances.topk(most)
    columns = [chances.gather(-1, tokens[some][:, None]), top.indices, top.values]
    table = torch.cat([column.double() for column in columns], -1)
    return table.new_zeros((len(rows), table.shape[-1])).index_copy_(0, some, table)


def _read_logprobs(row: torch.Tensor, count: int) -> Logprobs:
    chosen, *rest = [max(value, LEAST_LOGPROB) for value in row.tolist()]
    most = len(rest) // 2
    top = zip(map(int, rest[:most]), rest[most:], strict=True)
    return Logprobs(chosen, list(top)[:count])


def _forbid(scores: torch.Tensor, rows: Sequence[Sampler]) -> None:
    pairs = [(at, token) for at, row in enumerate(rows) for token in row.forbidden]
    if pairs:
        at, tokens = torch.tensor(pairs, device=scores.device).unbind(-1)
        scores.index_put_((at, tokens), scores.new_tensor(float("-inf")))


def _draw(rows: Sequence[Sampler], errors: dict[int, Exception]) -> tuple[list[int], list[float]]:
    """The rows to sample, and the random number of each; adds errors to `errors`."""
    drawn: list[int] = []
    numbers: list[float] = []
    for at, row in enumerate(rows):
        if not row.options.is_greedy and at not in errors:
            try:
                numbers.append(row.draw())
                drawn.append(at)
            except Exception as error:
                errors[at] = error
    return drawn, numbers
