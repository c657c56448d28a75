"""The policy loss over the completions of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.objectives.losses import LossOutput, grpo_loss
from lightning_r1v3.types import TokenStats

ByCompletion = Mapping[int, Tensor]
"""float32 `[length]` nats, by index of the completion in the episode."""


@dataclass(frozen=True)
class EpisodeLoss:
    """What `grpo_loss` needs to know of an episode."""

    episode: Episode
    """The completions and their advantages."""
    settings: PolicyLoss
    """The options of the loss."""
    max_new_tokens: int
    """Longest completion."""
    old: ByCompletion | None = None
    """Log-probabilities before the episode's first step; None where that step is the only one."""
    reference: ByCompletion | None = None
    """Those of the policy that the run started with; None where the loss has no use for them."""

    def of(self, members: Sequence[int], stats: TokenStats, denominator: float) -> LossOutput:
        """Returns the loss of some completions.

        Args:
            members: Their indices.
            stats: Of their tokens, completion after completion, in the graph.
            denominator: `share` summed over everything that the step trains on.
        """
        if not members:
            return LossOutput(stats.logprobs.sum(), {})  # the blank picture alone: 0, and part of the graph
        episode, device = self.episode, stats.logprobs.device
        lengths = [len(episode.completions[index]) for index in members]
        logprobs = pad_sequence(list(stats.logprobs.split(lengths)), batch_first=True)
        mask = (torch.arange(logprobs.shape[1]) < torch.tensor(lengths)[:, None]) & episode.trained[members, None]
        drawn = dict(enumerate(episode.rollout_logprobs))
        options = {name: value for name, value in vars(self.settings).items() if name != "normalise"}
        return grpo_loss(
            logprobs,
            logprobs.detach() if self.old is None else _padded(self.old, members, device),
            episode.advantages[members].to(device),
            mask.to(device),
            ref_logprobs=None if self.reference is None else _padded(self.reference, members, device),
            entropy=pad_sequence(list(stats.entropy.split(lengths)), batch_first=True),
            rollout_logprobs=_padded(drawn, members, device),
            denominator=denominator,
            **options,
        )

    def share(self, members: Sequence[int]) -> float:
        """Returns what completions add to the denominator: their number, their tokens, or number times longest."""
        trained = [index for index in members if self.episode.trained[index]]
        if self.settings.aggregation == "token":
            return sum(len(self.episode.completions[index]) for index in trained)
        return len(trained) * (self.max_new_tokens if self.settings.aggregation == "constant" else 1)

    def gap(self, learner: ByCompletion) -> tuple[float, int]:
        """Returns the summed absolute difference between learner and engine, in nats, and the number of tokens."""
        drawn = self.episode.rollout_logprobs
        total = sum(float((logprobs.cpu() - drawn[index]).abs().sum()) for index, logprobs in learner.items())
        return total, sum(len(logprobs) for logprobs in learner.values())


def _padded(values: ByCompletion, members: Sequence[int], device: torch.device) -> Tensor:
    return pad_sequence([values[index] for index in members], batch_first=True).to(device)
