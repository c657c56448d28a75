"""How much a completion repeats itself."""

from __future__ import annotations

import torch
from torch import Tensor

NGRAM = 4
"""Tokens that count as repeated together; fewer repeat in any text."""
_MIXER = 1_000_003
"""A prime: two different n-grams of a completion collide once in about 2^63 / T² cases."""


def repeated_fractions(token_ids: Tensor, mask: Tensor) -> Tensor:
    """Returns the share of each completion's n-grams that occurred before in it, float64 `[B]`.

    A completion shorter than an n-gram has share 0.

    Args:
        token_ids: int64 `[B, T]`.
        mask: bool `[B, T]`, True for a completion's tokens, which come first.
    """
    num_ngrams = token_ids.shape[1] - NGRAM + 1
    counts = (mask.sum(dim=1) - NGRAM + 1).clamp(min=0)
    if num_ngrams < 1:
        return torch.zeros(len(token_ids), dtype=torch.float64)
    hashes = torch.zeros_like(token_ids[:, :num_ngrams])
    for offset in range(NGRAM):
        hashes = hashes * _MIXER + token_ids[:, offset : offset + num_ngrams]  # wraps around
    position = torch.arange(num_ngrams, device=token_ids.device)
    inside = position < counts[:, None]
    # Padding becomes as many different negative values as there are positions.
    ordered = torch.where(inside, hashes & torch.iinfo(torch.int64).max, -1 - position).sort(dim=1).values
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(dim=1)
    return (repeated.double() / counts.clamp(min=1)).cpu()
