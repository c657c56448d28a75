"""One RL episode: prompts, their completions, rewards and advantages, prompt-major throughout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.types import FINISH_LENGTH, Example


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
    """Reward, accuracy and format of each completion, as graded."""
    advantages: Tensor
    """float32 `[P·G]`, eq. 6, from the rewards less the overlong penalty."""
    finish_reason: tuple[str, ...]
    """`stop` or `length` of each completion."""
    trained: Tensor
    """bool `[P·G]`: False for completions that the overlong filter leaves out of the loss."""
    policy_version: int
    """Of the weights that drew them."""

    @property
    def group_size(self) -> int:
        """G, completions of a prompt; 0 where there is no prompt."""
        return len(self.completions) // max(1, len(self.prompts))

    @property
    def truncated(self) -> Tensor:
        """Bool `[P·G]`: completions that reached the longest length."""
        return torch.tensor([reason == FINISH_LENGTH for reason in self.finish_reason], dtype=torch.bool)

    @property
    def differing(self) -> Tensor:
        """Bool `[P]`: groups whose rewards differ, so that there is something to learn from them."""
        return self.advantages.view(len(self.prompts), self.group_size).ne(0).any(dim=1)

    def members(self, groups: Iterable[int]) -> list[int]:
        """Returns the indices of the groups' completions, group after group."""
        return [group * self.group_size + i for group in groups for i in range(self.group_size)]

    def examples(self, members: Iterable[int]) -> list[Example]:
        """Returns the prompts of some completions, each with its completion."""
        return [
            replace(self.prompts[index // self.group_size], completion_ids=self.completions[index]) for index in members
        ]

    def select(self, groups: Sequence[int]) -> Episode:
        """Returns the episode of these groups alone, in this order."""
        members = self.members(groups)
        rewards = self.rewards
        return Episode(
            prompts=tuple(self.prompts[group] for group in groups),
            completions=tuple(self.completions[index] for index in members),
            texts=tuple(self.texts[index] for index in members),
            rollout_logprobs=tuple(self.rollout_logprobs[index] for index in members),
            rewards=RewardBatch(
                rewards.reward[members],
                rewards.accuracy[members],
                rewards.format[members],
                tuple(rewards.status[index] for index in members),
                rewards.counts,
            ),
            advantages=self.advantages[members],
            finish_reason=tuple(self.finish_reason[index] for index in members),
            trained=self.trained[members],
            policy_version=self.policy_version,
        )


def join_episodes(parts: Sequence[Episode]) -> Episode:
    """Returns the groups of all parts as one episode; none gives an empty one. Counts are added up."""
    nothing = torch.zeros(0)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.rewards.counts)
    return Episode(
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
        completions=tuple(completion for part in parts for completion in part.completions),
        texts=tuple(text for part in parts for text in part.texts),
        rollout_logprobs=tuple(logprobs for part in parts for logprobs in part.rollout_logprobs),
        rewards=RewardBatch(
            torch.cat([part.rewards.reward for part in parts] or [nothing]),
            torch.cat([part.rewards.accuracy for part in parts] or [nothing]),
            torch.cat([part.rewards.format for part in parts] or [nothing]),
            tuple(status for part in parts for status in part.rewards.status),
            dict(counts),
        ),
        advantages=torch.cat([part.advantages for part in parts] or [nothing]),
        finish_reason=tuple(reason for part in parts for reason in part.finish_reason),
        trained=torch.cat([part.trained for part in parts] or [nothing.bool()]),
        policy_version=min((part.policy_version for part in parts), default=0),
    )
