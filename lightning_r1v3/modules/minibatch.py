"""The groups of an episode as the rows of its gradient steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.types import TokenBatch, TokenStats

CompletionRow = tuple[list[int], TokenBatch]
"""Indices of an episode's completions, and the row that they are packed in."""


@dataclass(frozen=True)
class Update:
    """One gradient step and what was seen on its way."""

    rows: list[CompletionRow]
    """What it trained on."""
    stats: TokenStats
    """Of the rows' targets, in order, before the step."""
    loss: float
    """This rank's part."""
    grad_norm: float
    """Before clipping, over all ranks."""
    sums: Mapping[str, float]
    """`LossOutput.metrics`, summed over the rows."""


def split_groups(num_groups: int, num_minibatches: int) -> list[list[int]]:
    """Returns the groups of each minibatch, as even as they come; some are empty where there are fewer groups."""
    bounds = [round(i * num_groups / num_minibatches) for i in range(num_minibatches + 1)]
    return [list(range(start, stop)) for start, stop in pairwise(bounds)]


def members_of(rows: Iterable[CompletionRow]) -> list[int]:
    """Returns the indices of the completions in the order of the rows."""
    return [member for members, _ in rows for member in members]


def by_completion(episode: Episode, members: Sequence[int], values: Tensor) -> dict[int, Tensor]:
    """Returns values per token by the index of their completion.

    Args:
        episode: Whose completions.
        members: Their indices, in the order of `values`.
        values: `[N]`, one per completion token.
    """
    parts = values.split([len(episode.completions[index]) for index in members])
    return dict(zip(members, parts, strict=True))


def first_pass(updates: Sequence[Update], num_minibatches: int) -> tuple[list[CompletionRow], TokenStats]:
    """Returns the rows and statistics of the first pass over the episode, in which each completion is met once."""
    passed = updates[:num_minibatches]
    stats = [update.stats for update in passed]
    joined = TokenStats(torch.cat([part.logprobs for part in stats]), torch.cat([part.entropy for part in stats]))
    return [row for update in passed for row in update.rows], joined


def update_sums(updates: Sequence[Update]) -> dict[str, tuple[float, float]]:
    """Returns the metrics of the gradient steps as (total, count) of this rank; a count of 0 makes a sum."""
    num_tokens = sum(update.sums.get("num_tokens", 0.0) for update in updates)
    names = {name for update in updates for name in update.sums} - {"num_tokens"}
    totals = {name: sum(update.sums.get(name, 0.0) for update in updates) for name in names}
    loss = sum(update.loss for update in updates) / len(updates)
    grad_norm = sum(update.grad_norm for update in updates)
    return {f"train/{name}": (total, num_tokens) for name, total in totals.items()} | {
        "train/loss": (loss, 0),
        "train/grad_norm": (grad_norm, len(updates)),
    }
