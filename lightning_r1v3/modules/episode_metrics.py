"""The metrics of one episode over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning import Trainer

from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.modules.ranks import gather_across_ranks, reduce_across_ranks
from lightning_r1v3.types import TokenStats


def episode_sums(
    episode: Episode, num_drawn: int, stats: TokenStats, gap: tuple[float, int]
) -> dict[str, tuple[float, float]]:
    """Returns what this rank knows of an episode, to be averaged by `mean_across_ranks`.

    Args:
        episode: This rank's part.
        num_drawn: Prompts that were drawn for it.
        stats: Of all its completion tokens, as first seen by the learner.
        gap: `EpisodeLoss.gap` of the learner before its first step.

    Returns:
        Means over completions, over groups and over tokens, and sums of what the reward counts.
        `rollout/logprob_gap` is the mean absolute difference, in nats, between the log-probabilities of the learner and
        of the engine.
    """
    num_completions, num_groups, num_tokens = len(episode.texts), len(episode.prompts), len(stats.logprobs)
    rewards = episode.rewards
    by_completion = {
        "train/reward": rewards.reward,
        "train/accuracy_reward": rewards.accuracy,
        "train/format_reward": rewards.format,
        "train/truncated_fraction": episode.truncated,
    }
    sums: dict[str, tuple[float, float]] = {
        name: (float(values.sum()), num_completions) for name, values in by_completion.items()
    }
    sums |= {f"reward/{name}": (float(count), 0) for name, count in rewards.counts.items()}
    return sums | {
        "train/response_length": (num_tokens, num_completions),
        "train/equal_groups": (num_groups - int(episode.differing.sum()), num_groups),
        "rollout/drawn_prompts": (num_drawn, 0),
        "train/entropy": (float(stats.entropy.sum()), num_tokens),
        "rollout/logprob_gap": gap,
    }


def mean_across_ranks(sums: Mapping[str, tuple[float, float]], trainer: Trainer) -> dict[str, float]:
    """Returns each metric over all ranks, the same on each; all ranks must reach this.

    Args:
        sums: (total, count) of this rank: a mean over all ranks, or with a count of 0 a sum.
        trainer: For the ranks.
    """
    names = sorted({name for names in gather_across_ranks(list(sums), trainer) for name in names})
    pairs = torch.tensor([sums.get(name, (0.0, 0.0)) for name in names], dtype=torch.float64)
    totals = reduce_across_ranks(pairs.to(trainer.strategy.root_device), trainer)
    return {name: float(total / max(count, 1)) for name, (total, count) in zip(names, totals.tolist(), strict=True)}
