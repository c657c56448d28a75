"""An episode from prompts: completions drawn, graded and compared; groups without a difference replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_r1v3.modules.episode import Episode, join_episodes
from lightning_r1v3.modules.overlong import Overlong
from lightning_r1v3.objectives.advantages import Normalise, group_relative_advantages
from lightning_r1v3.rewards.reward import RewardFunction
from lightning_r1v3.types import Example, RolloutBatch, Sampling


def score_rollouts(
    prompts: Sequence[Example],
    rollouts: RolloutBatch,
    sampling: Sampling,
    *,
    reward: RewardFunction,
    tokenizer: Any,
    normalise: Normalise = "std",
    overlong: Overlong | None = None,
) -> Episode:
    """Grades completions and compares each with its group.

    Args:
        prompts: P prompts, at least one, all of one prompt format.
        rollouts: Their completions.
        sampling: How they were drawn.
        reward: Grades the texts.
        tokenizer: Decodes them.
        normalise: Of the advantages.
        overlong: What becomes of long ones.
    """
    overlong = overlong or Overlong()
    lengths = rollouts.mask.sum(dim=1).cpu()
    completions = _rows(rollouts.token_ids, lengths)
    texts = tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in completions)
    samples = [prompt.sample for prompt in prompts for _ in range(sampling.group_size)]
    rewards = reward.score(texts, samples, think_opened=prompts[0].think_opened)
    paid = rewards.reward - overlong.penalties(lengths, sampling.max_new_tokens)
    episode = Episode(
        prompts=tuple(prompts),
        completions=completions,
        texts=texts,
        rollout_logprobs=_rows(rollouts.logprobs, lengths),
        rewards=rewards,
        advantages=group_relative_advantages(paid, sampling.group_size, normalise=normalise),
        finish_reason=rollouts.finish_reason,
        trained=torch.ones(len(lengths), dtype=torch.bool),
        policy_version=rollouts.policy_version,
    )
    return replace(episode, trained=~episode.truncated) if overlong.filter else episode


def collect_episode(
    prompts: Sequence[Example], num_groups: int, draw: Callable[[Sequence[Example]], Episode]
) -> tuple[Episode, int]:
    """Draws until there are enough groups whose rewards differ (dynamic sampling, DAPO 3.2), or no prompt is left.

    The first `num_groups` prompts are drawn; each group whose rewards are all equal is replaced by the next prompt's.
    If the prompts run out, the equal ones fill up: they weigh nothing in the gradient, and the batch keeps its size.

    Args:
        prompts: In order; those beyond `num_groups` are spare, and cap the extra generation.
        num_groups: Groups of the episode.
        draw: Makes an episode of some prompts.

    Returns:
        The episode, and the number of prompts that were drawn for it.
    """
    parts: list[Episode] = []
    num_drawn, num_differing = 0, 0
    while num_drawn < len(prompts) and num_differing < num_groups:
        some = prompts[num_drawn : num_drawn + num_groups - num_differing]
        parts.append(draw(some))
        num_drawn += len(some)
        num_differing += int(parts[-1].differing.sum())
    drawn = join_episodes(parts)
    differing_first = torch.argsort(drawn.differing, descending=True, stable=True)
    return drawn.select(differing_first[:num_groups].tolist()), num_drawn


def _rows(tensor: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return tuple(row[:length].cpu() for row, length in zip(tensor, lengths.tolist(), strict=True))
