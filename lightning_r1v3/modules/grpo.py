"""GRPO: completions drawn from the policy, verifiable rewards, advantages within the group (paper 3.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_r1v3.backbone.packing import pack_groups
from lightning_r1v3.modules.base import VLMModule
from lightning_r1v3.modules.episode import Episode, score_episode
from lightning_r1v3.modules.episode_metrics import episode_metrics
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.objectives.losses import LossOutput, grpo_loss
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.rewards.reward import RewardFunction
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, ExampleBatch, Sampling, TokenBatch, TokenStats

GroupRow = tuple[list[int], TokenBatch]
"""Indices of an episode's groups, and the row that they are packed in."""

MIN_GROUP = 2
"""Completions that a group needs to be compared."""


class GRPO(VLMModule):
    """One `training_step` is one episode: generate, score, advantages, loss, step.

    The batch holds the episode's prompts; `sampling.group_size` completions are drawn of each, and one gradient step is
    taken (on-policy), so the old log-probabilities are the current ones, detached, and no extra forward pass is made.
    """

    def __init__(
        self,
        sampling: Sampling,
        reward: RewardFunction | None = None,
        policy_loss: PolicyLoss | None = None,
        allow_frozen_connector: bool = False,
        **base: Any,
    ) -> None:
        """Stores the settings.

        Args:
            sampling: Of the completions (paper: group_size 32, temperature 1).
            reward: By default 0.8·accuracy + 0.2·format, accuracy by rule.
            policy_loss: Clip, aggregation and the variants.
            allow_frozen_connector: Train although the connector is frozen, which makes RL collapse (paper 5.2).
            **base: See `VLMModule`.

        Raises:
            ValueError: A group of one, top-p sampling, or a frozen connector without the override.
        """
        super().__init__(**base)
        if sampling.group_size < MIN_GROUP or sampling.top_p < 1:
            raise ValueError(
                f"sampling: GRPO compares at least {MIN_GROUP} completions, drawn from the whole distribution; got "
                f"group_size {sampling.group_size}, top_p {sampling.top_p}"
            )
        if "connector" not in self.backbone_config.trainable and not allow_frozen_connector:
            raise ValueError(
                "GRPO with a frozen connector collapses (paper 5.2): add connector to backbone.trainable, or set "
                "allow_frozen_connector: true to see it happen"
            )
        self.sampling = sampling
        self.reward = reward or MixedReward()
        self.policy_loss = policy_loss or PolicyLoss()

    def training_step(self, batch: ExampleBatch, batch_idx: int) -> dict[str, Any]:
        """Runs one episode; returns `step_output` of the sampled completions, and `rewards`, `accuracy [B]`."""
        engine = LocalEngine(self.model)
        with self.phase("generate"):
            rollouts = engine.generate(batch.examples, self.sampling, step=self.global_step) if batch.examples else None
        with self.phase("score"):
            episode = score_episode(
                batch.examples,
                rollouts,
                group_size=self.sampling.group_size,
                reward=self.reward,
                tokenizer=self.tokenizer,
                normalise=self.policy_loss.normalise,
            )
        with self.phase("update"):
            rows = self._pack(episode)
            denominator = self._denominator(episode)
            outputs: list[LossOutput] = []

            def loss_of(groups: list[int], stats: TokenStats) -> Tensor:
                outputs.append(self._loss(episode, groups, stats, denominator))
                return outputs[-1].loss

            bias = engine.banned(self.sampling.banned_strings).to(self.device)
            stats, loss = self.train_rows(rows, loss_of, temperature=self.sampling.temperature, logit_bias=bias)
            grad_norm = self.take_step()
        clipped = sum(float(output.metrics["clip_fraction"]) for output in outputs)
        order = self._order(rows)
        metrics = episode_metrics(episode, order, stats, loss=float(loss), clipped=clipped, trainer=self.trainer)
        self.log("train/reward", metrics.pop("train/reward"), prog_bar=True)
        self.log_dict(metrics | {"train/grad_norm": grad_norm, "train/skipped_steps": float(self.num_skipped_steps)})
        self.log("rollout/tokens_per_second", len(stats.logprobs) / self.phase_seconds["generate"])
        completed = [(self._completed(episode, groups), row) for groups, row in rows]
        rewards = {"rewards": episode.rewards.reward[order], "accuracy": episode.rewards.accuracy[order]}
        return self.step_output(metrics["train/loss"], completed, stats) | rewards

    def on_fit_end(self) -> None:
        """Hands the model off and ends the reward's processes."""
        super().on_fit_end()
        self.reward.close()

    def _pack(self, episode: Episode) -> list[GroupRow]:
        size = self.sampling.group_size
        groups = [episode.completions[i * size : (i + 1) * size] for i in range(len(episode.prompts))]
        budget = self.max_tokens_per_microbatch
        return self.level(pack_groups(episode.prompts, groups, max_tokens=budget, blank=self.blank))

    def _order(self, rows: list[GroupRow]) -> list[int]:
        """Indices of the episode's completions in the order of the rows."""
        return self._members([group for groups, _ in rows for group in groups])

    def _members(self, groups: list[int]) -> list[int]:
        """Indices of the groups' completions in the episode."""
        size = self.sampling.group_size
        return [group * size + i for group in groups for i in range(size)]

    def _completed(self, episode: Episode, groups: list[int]) -> list[Example]:
        """The groups' prompts, each with its sampled completions."""
        prompts = [episode.prompts[group] for group in groups for _ in range(self.sampling.group_size)]
        members = self._members(groups)
        return [
            replace(prompt, completion_ids=episode.completions[index])
            for prompt, index in zip(prompts, members, strict=True)
        ]

    def _denominator(self, episode: Episode) -> float:
        """What the loss is normalised by, over all ranks."""
        if self.policy_loss.aggregation == "token":
            return self.across_ranks(sum(map(len, episode.completions)))
        num_completions = self.across_ranks(len(episode.completions))
        return num_completions * (self.sampling.max_new_tokens if self.policy_loss.aggregation == "constant" else 1)

    def _loss(self, episode: Episode, groups: list[int], stats: TokenStats, denominator: float) -> LossOutput:
        """The loss of a row's groups; 0 for a row of the blank picture alone."""
        indices = self._members(groups)
        if not indices:
            return LossOutput(stats.logprobs.sum(), {"clip_fraction": torch.zeros(())})
        lengths = [len(episode.completions[index]) for index in indices]
        logprobs = pad_sequence(list(stats.logprobs.split(lengths)), batch_first=True)
        entropy = pad_sequence(list(stats.entropy.split(lengths)), batch_first=True)
        rollout = pad_sequence([episode.rollout_logprobs[index] for index in indices], batch_first=True)
        mask = torch.arange(logprobs.shape[1]) < torch.tensor(lengths)[:, None]
        options = {name: value for name, value in vars(self.policy_loss).items() if name != "normalise"}
        return grpo_loss(
            logprobs,
            logprobs.detach(),
            episode.advantages[indices].to(self.device),
            mask.to(self.device),
            entropy=entropy,
            rollout_logprobs=rollout.to(self.device),
            denominator=denominator,
            **options,
        )
