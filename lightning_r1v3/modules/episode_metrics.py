"""The metrics of one episode over all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import Trainer
from torch import Tensor

from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.modules.ranks import reduce_across_ranks
from lightning_r1v3.types import TokenStats


def episode_metrics(
    episode: Episode, order: Sequence[int], stats: TokenStats, *, loss: float, clipped: float, trainer: Trainer
) -> dict[str, float]:
    """Returns the episode's metrics, the same on every rank; all ranks must reach this.

    Args:
        episode: This rank's part.
        order: Indices of its completions in the order of `stats`.
        stats: Of all completion tokens.
        loss: This rank's part of the loss.
        clipped: Number of its tokens whose ratio was clipped.
        trainer: For the ranks.

    Returns:
        `train/loss`; means over completions and over tokens. `rollout/logprob_gap` is the mean absolute difference, in
        nats, between the log-probabilities of the learner and of the engine that drew the tokens.
    """
    drawn = torch.cat([episode.rollout_logprobs[index] for index in order] or [torch.zeros(0)])
    rewards = episode.rewards
    by_completion: dict[str, Tensor | float] = {
        "train/reward": rewards.reward.sum(),
        "train/accuracy_reward": rewards.accuracy.sum(),
        "train/format_reward": rewards.format.sum(),
        "train/response_length": len(stats.logprobs),
        "train/truncated_fraction": episode.truncated.sum(),
    }
    by_token: dict[str, Tensor | float] = {
        "train/entropy": stats.entropy.sum(),
        "rollout/logprob_gap": (stats.logprobs.cpu() - drawn).abs().sum(),
        "train/clip_fraction": clipped,
    }
    sums = [float(value) for value in (*by_completion.values(), *by_token.values())]
    numbers = torch.tensor([loss, len(episode.texts), len(stats.logprobs), *sums], device=stats.logprobs.device)
    loss_everywhere, completions, tokens, *totals = reduce_across_ranks(numbers, trainer).tolist()
    counts = [completions] * len(by_completion) + [tokens] * len(by_token)
    names = (*by_completion, *by_token)
    means = {name: total / max(count, 1) for name, total, count in zip(names, totals, counts, strict=True)}
    return {"train/loss": loss_everywhere, **means}
