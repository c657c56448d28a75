"""GRPO: completions drawn from the policy, verifiable rewards, advantages within the group (paper 3.3)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.backbone.packing import pack_groups
from lightning_r1v3.modules.base import VLMModule
from lightning_r1v3.modules.collect import collect_episode, score_rollouts
from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.modules.episode_loss import ByCompletion, EpisodeLoss
from lightning_r1v3.modules.episode_metrics import episode_sums, mean_across_ranks
from lightning_r1v3.modules.length_schedule import LengthSchedule
from lightning_r1v3.modules.minibatch import (
    CompletionRow,
    Update,
    by_completion,
    first_pass,
    members_of,
    split_groups,
    update_sums,
)
from lightning_r1v3.modules.overlong import Overlong
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.modules.rollout_log import FILE_NAME, append_lines, rollout_lines
from lightning_r1v3.modules.staleness import check_gap, check_staleness
from lightning_r1v3.rollout.draws import ban_bias
from lightning_r1v3.rollout.engine import AheadEngine
from lightning_r1v3.rollout.errors import RolloutError
from lightning_r1v3.types import Example, ExampleBatch, Sampling, SyncReport, TokenStats

MIN_GROUP = 2
"""Completions that a group needs to be compared."""


class GRPO(VLMModule):
    """One `training_step` is one episode: sync, generate, score, advantages, loss, step.

    The batch holds the prompts; `sampling.group_size` completions are drawn of each. With one gradient step per episode
    (on-policy, the paper's setting) the old log-probabilities are the current ones, detached: no extra forward pass is
    made. A group's prompt and pictures are computed once; only a group longer than a row is cut into several.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (the keys of `model` in a YAML)
        self,
        sampling: Sampling,
        policy_loss: PolicyLoss | None = None,
        prompts_per_episode: PositiveInt | None = None,
        minibatches: PositiveInt = 1,
        epochs_per_episode: PositiveInt = 1,
        overlong: Overlong | None = None,
        max_new_tokens_at: dict[int, int] | None = None,
        max_logprob_gap: float | None = None,
        max_staleness: Literal[0, 1] = 0,
        num_logged_rollouts: NonNegativeInt = 4,
        allow_frozen_connector: bool = False,
        **base: Any,
    ) -> None:
        """Stores the settings.

        Args:
            sampling: Of the completions (paper: group_size 32, temperature 1).
            policy_loss: Clip, aggregation and the variants.
            prompts_per_episode: Groups of an episode over all processes; by default the data's batch_size. The other
                prompts of a batch take the place of groups whose rewards are all equal (dynamic sampling).
            minibatches: Gradient steps of a pass over the episode.
            epochs_per_episode: Passes over the episode.
            overlong: What becomes of long completions.
            max_new_tokens_at: From which step on completions may be how long (paper 3.3: 4,096 growing to 8,192);
                before the first of these steps `sampling.max_new_tokens` holds.
            max_logprob_gap: Stop before the step when learner and engine disagree by more nats a token (mean).
            max_staleness: 1 draws the next episode's completions while this one trains, so that they are one episode
                old; `policy_loss.truncate_ratio` corrects for it. A resumed run draws them anew.
            num_logged_rollouts: Completions of each episode written to `RUN/rollouts.jsonl`.
            allow_frozen_connector: Train although the connector is frozen, which makes RL collapse (paper 5.2).
            **base: See `VLMModule`.

        Raises:
            ValueError: A group of one, top-p sampling, a number out of range, a frozen connector without the override,
                or old completions without an engine for them or the correction.
        """
        super().__init__(**base)
        if sampling.group_size < MIN_GROUP or sampling.top_p < 1:
            raise ValueError(
                f"sampling: GRPO compares at least {MIN_GROUP} completions, drawn from the whole distribution; got "
                f"group_size {sampling.group_size}, top_p {sampling.top_p}"
            )
        if "connector" not in self.trainable and not allow_frozen_connector:
            raise ValueError(
                "GRPO with a frozen connector collapses (paper 5.2): add connector to backbone.trainable, or set "
                "allow_frozen_connector: true to see it happen"
            )
        self.sampling = sampling
        self.policy_loss = policy_loss or PolicyLoss()
        self.prompts_per_episode = prompts_per_episode
        self.minibatches, self.epochs_per_episode = minibatches, epochs_per_episode
        self.overlong = overlong or Overlong()
        self.length_schedule = LengthSchedule(sampling, max_new_tokens_at)
        check_staleness(max_staleness, self.engine, self.policy_loss)
        self.max_staleness, self.max_logprob_gap = max_staleness, max_logprob_gap
        self.num_logged_rollouts = num_logged_rollouts
        self._reference: tuple[Backbone, ...] = ()  # in a tuple, so that it is no submodule: it is in no checkpoint

    def configure_model(self) -> None:
        """Builds the backbone, and once more, frozen, where the loss measures how far the policy has moved."""
        built = self.backbone is not None
        super().configure_model()
        if self.policy_loss.kl_coef and not built:
            self._reference = (self.build_backbone().requires_grad_(False).eval(),)

    def on_fit_start(self) -> None:
        """Checks the number of prompts.

        Raises:
            ValueError: A batch has fewer prompts than an episode.
        """
        super().on_fit_start()
        batch_size = self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        if (self.prompts_per_episode or 0) > batch_size:
            raise ValueError(
                f"prompts_per_episode {self.prompts_per_episode} is more than data.batch_size {batch_size}, "
                "the prompts that an episode may draw: raise batch_size"
            )

    def training_step(self, batch: ExampleBatch, batch_idx: int) -> dict[str, Any]:
        """Runs one episode; returns `step_output` of the sampled completions, and `rewards`, `accuracy [B]`."""
        step = self.global_step
        with self.phase("sync"):
            synced = self.engine.sync(self.model, policy_version=step)
        episode, num_drawn = self._collect(batch, step)
        if self.max_staleness and batch.upcoming:
            self._draw_ahead(batch.upcoming)
        minibatches = [self._pack(episode, groups) for groups in split_groups(len(episode.prompts), self.minibatches)]
        loss = self._episode_loss(episode, minibatches)
        num_updates = self.minibatches * self.epochs_per_episode
        updates = [
            self._update(loss, minibatches[number % self.minibatches], last=number == num_updates - 1)
            for number in range(num_updates)
        ]
        return self._report(step, loss, num_drawn, updates, synced)

    @cached_property
    def logit_bias(self) -> Tensor:
        """float32 `[V]`: rules out what is never drawn, in the learner as in the engine."""
        vocabulary = self.model.model.get_output_embeddings().weight.shape[0]
        return ban_bias(self.model.processor, vocabulary, self.sampling.banned_strings)

    def _num_groups(self, prompts: Sequence[Example]) -> int:
        """This rank's share of an episode's groups."""
        if self.prompts_per_episode is None:
            return len(prompts)
        return len(range(self.global_rank, self.prompts_per_episode, self.trainer.world_size))

    def _collect(self, batch: ExampleBatch, step: int) -> tuple[Episode, int]:
        """Makes the episode, and says for how many prompts it was drawn; fails on all ranks or on none."""
        failure: RolloutError | None = None
        try:
            draw = partial(self._draw, step=step)
            collected = collect_episode(batch.examples, self._num_groups(batch.examples), draw)
        except RolloutError as error:
            failure = error
        if self.across_ranks(failure is not None, "max"):
            raise failure or RolloutError("the rollout engine of another process failed; its message says how")
        return collected

    def _draw_ahead(self, prompts: Sequence[Example]) -> None:
        """Has the next episode's first completions drawn while this one trains."""
        assert isinstance(self.engine, AheadEngine), "checked when built"
        step = self.global_step + self.minibatches * self.epochs_per_episode
        self.engine.prefetch(prompts[: self._num_groups(prompts)], self.length_schedule.at(step), step=step)

    def _draw(self, prompts: Sequence[Example], step: int) -> Episode:
        sampling = self.length_schedule.at(step)
        with self.phase("generate"):
            rollouts = self.engine.generate(prompts, sampling, step=step)
        with self.phase("score"):
            return score_rollouts(
                prompts,
                rollouts,
                sampling,
                reward=self.reward,
                tokenizer=self.tokenizer,
                normalise=self.policy_loss.normalise,
                overlong=self.overlong,
            )

    def _pack(self, episode: Episode, groups: list[int]) -> list[CompletionRow]:
        """Packs groups into rows, the same number on every rank; all ranks must reach this."""
        prompts = [episode.prompts[group] for group in groups]
        completions = [[episode.completions[index] for index in episode.members([group])] for group in groups]
        packed = pack_groups(prompts, completions, max_tokens=self.max_tokens_per_microbatch, blank=self.blank)
        members = episode.members(groups)
        return self.level([([members[place] for place in places], row) for places, row in packed])

    def _episode_loss(self, episode: Episode, minibatches: list[list[CompletionRow]]) -> EpisodeLoss:
        """Scores what the loss needs beyond the first step's own forward pass; all ranks must reach this."""
        rows = [row for rows in minibatches for row in rows]
        on_policy = self.minibatches == self.epochs_per_episode == 1
        with self.phase("score"):
            old = None if on_policy else self._logprobs(self.model, episode, rows)
            reference = self._logprobs(self._reference[0], episode, rows) if self._reference else None
        loss = EpisodeLoss(episode, self.policy_loss, self.sampling.max_new_tokens, old, reference)
        if old is not None:
            self._check_gap(loss, old)
        return loss

    @torch.no_grad()
    def _logprobs(self, backbone: Backbone, episode: Episode, rows: list[CompletionRow]) -> dict[int, Tensor]:
        scored: dict[int, Tensor] = {}
        for members, row in rows:
            stats = backbone(row.to(self.device), **self._scoring)
            scored |= by_completion(episode, members, stats.logprobs)
        return scored

    @property
    def _scoring(self) -> dict[str, Any]:
        """How the learner scores a token: as the engine drew it."""
        return {"temperature": self.sampling.temperature, "logit_bias": self.logit_bias.to(self.device)}

    def _update(self, loss: EpisodeLoss, rows: list[CompletionRow], *, last: bool) -> Update:
        """Takes one gradient step on some completions; all ranks must reach this."""
        sums: Counter[str] = Counter()
        members = members_of(rows)
        with self.phase("update"):
            denominator = self.across_ranks(loss.share(members))

            def loss_of(packed: list[int], stats: TokenStats) -> Tensor:
                output = loss.of(packed, stats, denominator)
                sums.update({name: float(value) for name, value in output.metrics.items()})
                return output.loss

            stats, loss_part = self.train_rows(rows, loss_of, **self._scoring)
            if loss.old is None:
                self._check_gap(loss, by_completion(loss.episode, members, stats.logprobs))
            return Update(rows, stats, float(loss_part), self.take_step(last=last), sums)

    def _check_gap(self, loss: EpisodeLoss, learner: dict[int, Tensor]) -> None:
        """Stops before a step on rollouts that this policy did not draw; all ranks must reach this."""
        if self.max_logprob_gap is not None:
            total, num_tokens = (self.across_ranks(number) for number in loss.gap(learner))
            check_gap(total / max(1.0, num_tokens), self.max_logprob_gap, loss.episode, self.global_step)

    def _report(
        self, step: int, loss: EpisodeLoss, num_drawn: int, updates: list[Update], synced: SyncReport
    ) -> dict[str, Any]:
        """Logs the episode and returns the step's output; all ranks must reach this."""
        episode = loss.episode
        rows, stats = first_pass(updates, self.minibatches)
        order = members_of(rows)
        learner = loss.old or by_completion(episode, order, stats.logprobs)
        sums = episode_sums(episode, num_drawn, stats, loss.gap(learner)) | update_sums(updates)
        metrics = mean_across_ranks(sums, self.trainer)
        self.log("train/reward", metrics.pop("train/reward"), prog_bar=True)
        self.log_dict(metrics | {"train/skipped_steps": float(self.num_skipped_steps)})
        self.log("rollout/staleness", float(step - episode.policy_version))
        self.log("rollout/tokens_per_second", len(stats.logprobs) / self.phase_seconds.get("generate", math.inf))
        if synced.num_bytes:
            share = self.phase_seconds["sync"] / sum(self.phase_seconds.values())
            self.log_dict({"sync/bytes": float(synced.num_bytes), "sync/seconds": synced.seconds, "sync/share": share})
        self._keep_rollouts(step, episode, learner, by_completion(episode, order, stats.entropy))
        completed = [(episode.examples(packed), row) for packed, row in rows]
        rewards = {"rewards": episode.rewards.reward[order], "accuracy": episode.rewards.accuracy[order]}
        return self.step_output(metrics["train/loss"], completed, stats) | rewards

    def _keep_rollouts(self, step: int, episode: Episode, logprobs: ByCompletion, entropies: ByCompletion) -> None:
        folder = self.trainer.log_dir  # all ranks must reach this: it is broadcast
        if folder is None or not self.trainer.is_global_zero or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        lines = rollout_lines(episode, logprobs, entropies, tokenizer=self.tokenizer, count=self.num_logged_rollouts)
        append_lines(Path(folder) / FILE_NAME, [{"step": step} | line for line in lines])
