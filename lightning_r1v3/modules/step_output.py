"""The dict that a training step returns: the contract with callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from lightning_r1v3.types import Example, TokenBatch, TokenStats

Row = tuple[list[Example], TokenBatch]
"""Examples and the row that they are packed in."""


def step_output(
    loss: float, rows: Sequence[Row], stats: TokenStats, phase_seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Returns what callbacks read of a step.

    Args:
        loss: Over all ranks.
        rows: This rank's rows.
        stats: Of all their targets, in order.
        phase_seconds: Wall time by phase.

    Returns:
        `loss`; `token_entropy` (nats), `token_ids` and `token_mask`, each `[B, T]` on the host, right-padded, for the B
        completions of this rank: `[b, t]` is the distribution that token t was drawn from; `domain` and `difficulty`,
        one str per completion; `phase_seconds`.
    """
    examples = [example for packed, _ in rows for example in packed]
    lengths = [len(example.completion_ids) for example in examples]
    # A rank without a completion has one of no token, so that the shapes stay `[B, T]`.
    entropies = list(stats.entropy.cpu().split(lengths)) or [torch.zeros(0)]
    ids = [example.completion_ids for example in examples] or [torch.zeros(0, dtype=torch.int64)]
    masks = [torch.ones(len(completion), dtype=torch.bool) for completion in ids]
    return {
        "loss": torch.tensor(loss),
        "token_entropy": pad_sequence(entropies, batch_first=True),
        "token_ids": pad_sequence(ids, batch_first=True),
        "token_mask": pad_sequence(masks, batch_first=True),
        "domain": [example.sample.domain for example in examples],
        "difficulty": [example.sample.difficulty for example in examples],
        "phase_seconds": dict(phase_seconds),
    }
