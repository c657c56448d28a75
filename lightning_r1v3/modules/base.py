"""What SFT, GRPO and ConnectorTune share: the backbone, its optimization, validation, hand-off."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_r1v3.backbone import MODULE_GROUPS, Backbone, BackboneConfig, ModuleGroup
from lightning_r1v3.backbone.packing import pack_examples
from lightning_r1v3.modules.checkpoint_io import CheckpointGuard
from lightning_r1v3.modules.completions import complete
from lightning_r1v3.modules.evaluation import Evaluation
from lightning_r1v3.modules.hand_off import Export, check_export, hand_off
from lightning_r1v3.modules.outage import OutageGuard
from lightning_r1v3.modules.parameter_groups import parameter_groups
from lightning_r1v3.modules.predictions import PredictionWriter, prediction
from lightning_r1v3.modules.preemption import PreemptionGuard
from lightning_r1v3.modules.ranks import gradient_exchange, reduce_across_ranks, whole_value
from lightning_r1v3.modules.schedule import Schedule
from lightning_r1v3.modules.step_output import Row, step_output
from lightning_r1v3.modules.validation import Validation
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.rewards.reward import RewardFunction
from lightning_r1v3.rollout.engine import RolloutEngine
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.strategy import VLMFSDPStrategy
from lightning_r1v3.types import Example, ExampleBatch, TokenBatch, TokenStats

log = logging.getLogger(__name__)

Packed = TypeVar("Packed")
"""What a row is made of: examples, or indices of completions."""


class VLMModule(LightningModule, ABC):
    """A post-training stage over the shared backbone.

    One `training_step` is one optimizer batch, split into rows of at most `max_tokens_per_microbatch` tokens. Losses
    are normalised by the global batch, so neither the rows nor the number of processes change the gradient. A stage
    defines `training_step`, out of `pack`, `train_rows`, `take_step` and `step_output`.
    """

    trains: ClassVar[tuple[ModuleGroup, ...]] = MODULE_GROUPS
    """Module groups that train where `backbone.trainable` names none."""

    def __init__(  # noqa: PLR0913, PLR0917  (the keys of `model` in a YAML)
        self,
        backbone: BackboneConfig,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        group_learning_rates: dict[ModuleGroup, float] | None = None,
        max_tokens_per_microbatch: PositiveInt = 16384,
        max_grad_norm: PositiveFloat = 1.0,
        evaluation: Evaluation | None = None,
        reward: RewardFunction | None = None,
        engine: RolloutEngine | None = None,
        export: Export = "auto",
    ) -> None:
        """Stores the settings; the model is built by `configure_model`.

        Args:
            backbone: The checkpoint, and what of it trains.
            optimizer: Makes the optimizer from parameter groups.
            schedule: Of the learning rate; constant by default.
            group_learning_rates: Learning rates of module groups that differ from the optimizer's.
            max_tokens_per_microbatch: Tokens of a packed row.
            max_grad_norm: Global norm to which gradients are clipped.
            evaluation: How validation completions are drawn.
            reward: Grades completions, in validation and in GRPO; by default 0.8·accuracy + 0.2·format, accuracy by
                rule.
            engine: Draws completions; by default the trainer's own model does.
            export: Which weights are handed off when the fit ends.

        Raises:
            ValueError: A learning rate is given to a group that does not train.
        """
        super().__init__()
        self.automatic_optimization = False
        self.trainable = backbone.trainable or list(self.trains)
        self.backbone_config = replace(backbone, trainable=self.trainable)
        self.optimizer_factory = optimizer
        self.schedule = schedule or Schedule()
        self.group_learning_rates = group_learning_rates or {}
        self.max_tokens_per_microbatch = max_tokens_per_microbatch
        self.max_grad_norm = max_grad_norm
        self.evaluation = evaluation or Evaluation()
        self.reward = reward or MixedReward()
        self.engine = engine or LocalEngine()
        self.export = export
        self.backbone: Backbone | None = None
        self.num_skipped_steps = 0
        """Steps left out because their gradient was not finite."""
        self.phase_seconds: dict[str, float] = {}
        """Wall time of the present step by phase."""
        if frozen := set(self.group_learning_rates) - set(self.trainable):
            raise ValueError(f"group_learning_rates names {sorted(frozen)}, but only {self.trainable} train")

    @property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer."""
        return self.model.processor.tokenizer

    @property
    def model(self) -> Backbone:
        """The backbone, once built."""
        assert self.backbone is not None, "configure_model builds the backbone"
        return self.backbone

    def configure_model(self) -> None:
        """Builds the backbone once and says what trains."""
        if self.backbone is not None:
            return
        self.backbone = self.build_backbone()
        self.strict_loading = not self.backbone.is_quantised
        for group in self.backbone.report():
            log.info("%s", group)

    def build_backbone(self) -> Backbone:
        """Returns a backbone from the checkpoint, sharded where the strategy shards; all ranks must reach this."""
        strategy = None if self._trainer is None else self.trainer.strategy
        return Backbone.from_config(
            self.backbone_config,
            device_type=strategy.root_device.type if strategy is not None else "cpu",
            sharding=strategy.sharding() if isinstance(strategy, VLMFSDPStrategy) else None,
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Makes one optimizer over what trains, one parameter group per module group, and its schedule."""
        optimizer = self.optimizer_factory(parameter_groups(self.model, self.group_learning_rates))
        scheduler = self.schedule.scheduler(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_callbacks(self) -> list[Callback]:
        """Returns what writes the predictions, keeps checkpoints whole, and saves pre-empted and cut-off runs."""
        return [PredictionWriter(), CheckpointGuard(), PreemptionGuard(), OutageGuard()]

    def pack(self, examples: Sequence[Example]) -> list[Row]:
        """Packs this rank's examples into rows, the same number on every rank."""
        return self.level(pack_examples(examples, max_tokens=self.max_tokens_per_microbatch, blank=self.blank))

    @property
    def blank(self) -> Example:
        """A picture without content, run where a rank has none."""
        blank: Example = self.trainer.datamodule.preprocessor.blank  # type: ignore[attr-defined]
        return blank

    def level(self, rows: list[tuple[list[Packed], TokenBatch]]) -> list[tuple[list[Packed], TokenBatch]]:
        """Adds rows of the blank picture until every rank has the same number; all ranks must reach this."""
        missing = int(self.across_ranks(len(rows), "max")) - len(rows)
        return rows + [([], pack_examples([], max_tokens=1, blank=self.blank)[0][1]) for _ in range(missing)]

    def across_ranks(self, value: float, how: Literal["sum", "max"] = "sum") -> float:
        """Returns the sum or maximum of a number over all ranks; all ranks must reach this."""
        tensor = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        return float(reduce_across_ranks(tensor, self.trainer, how))

    def train_rows(
        self,
        rows: Sequence[tuple[list[Packed], TokenBatch]],
        loss_of: Callable[[list[Packed], TokenStats], Tensor],
        *,
        temperature: float = 1.0,
        logit_bias: Tensor | None = None,
    ) -> tuple[TokenStats, Tensor]:
        """Runs forward and backward over the rows.

        Args:
            rows: From `pack` or `level`.
            loss_of: Loss of what is packed in a row, given its targets' statistics, normalised by the global batch: the
                sum over rows and ranks is the loss.
            temperature: Of the sampling, where the targets were drawn.
            logit_bias: `[V]`, likewise.

        Returns:
            The statistics of all targets, detached, in the order of the rows; and this rank's part of the loss.
        """
        logprobs, entropy, total = [], [], torch.zeros((), device=self.device)
        for number, (packed, row) in enumerate(rows, start=1):
            stats = self.model(row.to(self.device), temperature=temperature, logit_bias=logit_bias)
            loss = loss_of(packed, stats)
            with gradient_exchange(self.trainer.strategy.model, last=number == len(rows)):
                # Strategies average gradients over the ranks; the loss is a share of a global sum.
                self.manual_backward(loss * self.trainer.world_size)
            logprobs.append(stats.logprobs.detach())
            entropy.append(stats.entropy.detach())
            total += loss.detach()
        return TokenStats(torch.cat(logprobs), torch.cat(entropy)), total

    def take_step(self, *, last: bool = True) -> float:
        """Clips the gradients and steps the optimizer; returns the gradient norm before clipping.

        A step whose gradient norm is not finite is left out and counted.

        Args:
            last: Of this `training_step`: the schedule moves once in each, also when the step is left out.
        """
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = whole_value(torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
        if math.isfinite(norm):
            optimizer.step()
        else:
            self.num_skipped_steps += 1
            log.warning("step %d left out: gradient norm %s", self.global_step, norm)
        optimizer.zero_grad()
        if last:
            self.lr_schedulers().step()  # type: ignore[union-attr]
        return norm

    def step_output(self, loss: float, rows: Sequence[Row], stats: TokenStats) -> dict[str, Any]:
        """Returns what callbacks read of a step; see `lightning_r1v3.modules.step_output`."""
        return step_output(loss, rows, stats, self.phase_seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to the step's `phase_seconds`."""
        start = time.perf_counter()
        yield
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + time.perf_counter() - start

    def on_fit_start(self) -> None:
        """Checks what can only be known of the whole run.

        Raises:
            ValueError: There are no weights to hand off, the precision needs a loss scale, or the model is too large.
        """
        check_export(self.export, self.trainer)
        if isinstance(self.engine, LocalEngine) and self.evaluation.num_problems and self.trainer.enable_validation:
            self.model.check_gatherable()
        if self.trainer.precision == "16-mixed":
            raise ValueError("trainer.precision: 16-mixed scales the loss, which is not supported; use bf16-true")

    def on_train_batch_start(self, batch: ExampleBatch, batch_idx: int) -> None:
        """Starts the step's clock."""
        self.phase_seconds = {}

    def on_validation_epoch_start(self) -> None:
        """Starts counting anew."""
        if self.evaluation.num_problems:
            self.engine.sync(self.model, policy_version=self.global_step)
        self._validation = Validation(self.evaluation, self.engine, self.reward, self.tokenizer, self.trainer)

    @torch.no_grad()
    def validation_step(self, batch: ExampleBatch, batch_idx: int) -> None:
        """Adds the batch to the validation loss, and to accuracy and format rate by generation."""
        answered = [example for example in batch.examples if len(example.completion_ids)]
        for packed, row in self.pack(answered):
            self._validation.add_loss(packed, self.model(row.to(self.device)))
        self._validation.add_completions(batch.examples)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/loss`, `val/accuracy`, both also by DOMAIN, and `val/format_reward`, the same on every rank."""
        self.log_dict(self._validation.metrics())

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_predict_start(self) -> None:
        """Readies the engine."""
        self.engine.sync(self.model, policy_version=self.global_step)

    def predict_step(self, batch: ExampleBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Returns graded completions of this rank's problems, each as a line of `predictions.jsonl`."""
        completions = complete(self.engine, self.reward, self.tokenizer, batch.examples, self.evaluation.sampling)
        return [prediction(completion) for completion in completions]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the count of skipped steps; beside 4-bit weights, which are made anew, only what trains is kept."""
        checkpoint["num_skipped_steps"] = self.num_skipped_steps
        if self.model.is_quantised:
            trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
            checkpoint["state_dict"] = {name: t for name, t in checkpoint["state_dict"].items() if name in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the count of skipped steps up again."""
        self.num_skipped_steps = checkpoint["num_skipped_steps"]

    def on_fit_end(self) -> None:
        """Exports the stage's model to `RUN/hf`, which the next stage, transformers and vLLM load as it is."""
        hand_off(self.model, self.trainer, self.export)

    def teardown(self, stage: str) -> None:
        """Ends the processes of engine and reward."""
        self.engine.close()
        self.reward.close()
