"""Repetition, frequency and presence penalties: they lower the scores of tokens that occurred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from inference_runner.engines.text_generation.options import TextOptions


class Seen:
    """The distinct tokens of a prompt and its output, and the count of each in the output."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.ids = np.array(list(dict.fromkeys(prompt)), dtype=np.int64)
        self.counts = np.zeros(len(self.ids))
        self._at = {int(token): at for at, token in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, token: int) -> None:
        at = self._at.setdefault(token, len(self._at))
        if at == len(self.ids):
            self.ids = np.append(self.ids, token)
            self.counts = np.append(self.counts, 0.0)
        self.counts[at] += 1


def penalize(scores: torch.Tensor, rows: Sequence[tuple[int, Seen, TextOptions]]) -> None:
    """Apply penalties in place. Repetition as in transformers and CTRL (arXiv 1909.05858), over
    prompt and output; frequency and presence as defined by OpenAI's API, over the output.

    Args:
        scores: [rows, vocabulary]; `rows` has the indexes of those with penalties.
    """
    if not rows:
        return
    lengths = [len(seen) for _, seen, _ in rows]
    table = np.array(
        [[at, o.repetition_penalty, o.frequency_penalty, o.presence_penalty] for at, _, o in rows]
    )
    each = np.repeat(table, lengths, axis=0)
    counts = np.concatenate([seen.counts for _, seen, _ in rows])
    ids = np.concatenate([seen.ids for _, seen, _ in rows])
    minus = each[:, 2] * counts + each[:, 3] * (counts > 0)
    device = scores.device
    where = (
        torch.from_numpy(each[:, 0].astype(np.int64)).to(device),
        torch.from_numpy(ids).to(device),
    )
    repetition, less = torch.from_numpy(np.stack([each[:, 1], minus])).float().to(device)
    found = scores[where]
    found = torch.where(found > 0, found / repetition, found * repetition) - less
    scores.index_put_(where, found)
