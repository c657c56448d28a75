"""One RL episode: prompts, their completions, rewards and advantages, prompt-major throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_r1v3.objectives.advantages import Normalise, group_relative_advantages
from lightning_r1v3.rewards.reward import RewardBatch, RewardFunction
from lightning_r1v3.types import FINISH_LENGTH, Example, RolloutBatch


@dataclass(frozen=True)
class Episode:
    """This rank's part of an episode."""

    prompts: tuple[Example, ...]
    """Its P prompts; empty when all of its samples were dropped."""
    completions: tuple[Tensor, ...]
    """P·G completions, int64 `[length]` each."""
    texts: tuple[str, ...]
    """The completions as text, `<think>` tags kept, end-of-turn token left out."""
    rollout_logprobs: tuple[Tensor, ...]
    """float32 `[length]` each: of the tokens as they were drawn."""
    rewards: RewardBatch
    """Reward, accuracy and format of each completion."""
    advantages: Tensor
    """float32 `[P·G]`, eq. 6."""
    finish_reason: tuple[str, ...]
    """`stop` or `length` of each completion."""
    policy_version: int
    """Of the weights that drew them."""

    @property
    def truncated(self) -> Tensor:
        """Bool `[P·G]`: completions that reached the longest length."""
        return torch.tensor([reason == FINISH_LENGTH for reason in self.finish_reason], dtype=torch.bool)


def score_episode(
    prompts: Sequence[Example],
    rollouts: RolloutBatch | None,
    *,
    group_size: int,
    reward: RewardFunction,
    tokenizer: Any,
    normalise: Normalise = "std",
) -> Episode:
    """Grades completions and compares each with its group.

    Args:
        prompts: P prompts, all of one prompt format.
        rollouts: Their completions; None where there is no prompt.
        group_size: G, completions per prompt.
        reward: Grades the texts.
        tokenizer: Decodes them.
        normalise: Of the advantages.
    """
    if rollouts is None:
        nothing = torch.zeros(0)
        return Episode((), (), (), (), RewardBatch(nothing, nothing, nothing, ()), nothing, (), 0)
    lengths = rollouts.mask.sum(dim=1).tolist()
    completions = tuple(row[:length].cpu() for row, length in zip(rollouts.token_ids, lengths, strict=True))
    logprobs = tuple(row[:length].cpu() for row, length in zip(rollouts.logprobs, lengths, strict=True))
    texts = tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in completions)
    samples = [prompt.sample for prompt in prompts for _ in range(group_size)]
    rewards = reward.score(texts, samples, think_opened=prompts[0].think_opened)
    advantages = group_relative_advantages(rewards.reward, group_size, normalise=normalise)
    return Episode(
        prompts=tuple(prompts),
        completions=completions,
        texts=texts,
        rollout_logprobs=logprobs,
        rewards=rewards,
        advantages=advantages,
        finish_reason=rollouts.finish_reason,
        policy_version=rollouts.policy_version,
    )
