"""One kind of problem gets worse while the reward rises: the shift that a curriculum brings (paper 5.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from lightning import LightningModule, Trainer

from r1v3_callbacks.contract import Keys, entries
from r1v3_callbacks.group_accuracy import Shift, ShiftDetector, Tally
from r1v3_callbacks.ranks import gather
from r1v3_callbacks.step_callback import StepCallback

log = logging.getLogger(__name__)


class DomainShiftAlarm(StepCallback):
    """Logs accuracy per difficulty or domain, and warns of a group that falls from its peak while the reward rises.

    `train/accuracy/GROUP` is the accuracy of the group's completions in the last block; `shift/num_fallen` the number
    of groups that have fallen. Groups that are no longer trained on, as after the switch of a curriculum, only show in
    validation: metrics `val/accuracy/GROUP` are watched in the same way.
    """

    def __init__(
        self,
        group: Literal["difficulty", "domain"] = "difficulty",
        min_drop: float = 0.1,
        num_deviations: float = 4.0,
        block: int = 256,
        val_prefix: str = "val/accuracy/",
        num_val: int = 100,
        keys: Keys | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            group: What to tell apart in training.
            min_drop: Fall from the peak, as a share of completions, that is worth an alarm.
            num_deviations: … and its size in standard deviations of chance. The peak is the best of many blocks, so
                some of its height is chance: hence more than the usual two or three.
            block: Completions of a group that its accuracy is taken over.
            val_prefix: Of the names of the metrics that validation logs per group; empty for none.
            num_val: Problems per group in validation, for the size of chance.
            keys: Names of the entries of the dict that the step returns.

        Raises:
            ValueError: A number is out of its range.
        """
        super().__init__(keys)
        if not 0 < min_drop < 1 or num_deviations < 0 or block < 1 or num_val < 1:
            raise ValueError(
                f"expected min_drop in (0, 1), num_deviations of at least 0, block and num_val of at least 1, got "
                f"{min_drop}, {num_deviations}, {block}, {num_val}"
            )
        self.group = group
        self.val_prefix = val_prefix
        self.num_val = num_val
        self._train = ShiftDetector(block, min_drop, num_deviations)
        self._val = ShiftDetector(1, min_drop, num_deviations)
        self._reward_since_val = Tally()

    @property
    def state_key(self) -> str:
        """One per group, so that a run may have an alarm for difficulties and one for domains."""
        return self._generate_state_key(group=self.group)

    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> dict[str, Tally]:
        """Returns the micro-batch's tallies by group, that of the rewards under the empty name."""
        group_key = self.keys.difficulty if self.group == "difficulty" else self.keys.domain
        accuracy, rewards, groups = entries(
            outputs, (self.keys.accuracy, self.keys.rewards, group_key), "DomainShiftAlarm"
        )
        tallies = {"": Tally(float(rewards.double().sum()), len(rewards))}
        for group, right in zip(groups, accuracy.tolist(), strict=True):
            tallies[group] = tallies.get(group, Tally()) + Tally(right, 1)
        return tallies

    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[dict[str, Tally]]) -> None:
        """Adds the step and warns."""
        totals: dict[str, Tally] = {}
        for part in parts:
            for name, tally in part.items():
                totals[name] = totals.get(name, Tally()) + tally
        rewards = totals.pop("", Tally())
        self._reward_since_val += rewards
        self._train.add_reward(rewards.right, rewards.num)
        self._warn(trainer, self._train.add(totals), f"training {self.group}")
        accuracies = {name: history.last.accuracy for name, history in self._train.groups.items() if history.last.num}
        pl_module.log_dict(
            {f"train/accuracy/{name}": value for name, value in accuracies.items()}
            | {"shift/num_fallen": float(len(self._train.fallen) + len(self._val.fallen))}
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the accuracies that validation has logged; all processes must reach this."""
        if trainer.sanity_checking or not self.val_prefix:
            return
        metrics = trainer.callback_metrics.items()
        logged = {name: float(value) for name, value in metrics if name.startswith(self.val_prefix)}
        first = gather(logged, trainer)[0]
        tallies = {
            name.removeprefix(self.val_prefix): Tally(value * self.num_val, self.num_val)
            for name, value in first.items()
        }
        if self._reward_since_val.num:
            self._val.add_reward(self._reward_since_val.right, self._reward_since_val.num)
        self._reward_since_val = Tally()
        self._warn(trainer, self._val.add(tallies), "validation")

    def state_dict(self) -> dict[str, Any]:
        """Returns what was counted."""
        return super().state_dict() | {
            "train": self._train.state_dict(),
            "val": self._val.state_dict(),
            "reward_since_val": vars(self._reward_since_val),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up again."""
        super().load_state_dict(state_dict)
        self._train.load_state_dict(state_dict["train"])
        self._val.load_state_dict(state_dict["val"])
        self._reward_since_val = Tally(**state_dict["reward_since_val"])

    def _warn(self, trainer: Trainer, shifts: list[Shift], where: str) -> None:
        for shift in shifts if trainer.is_global_zero else []:
            log.warning(
                "step %d, %s: accuracy of %r fell from %.3f to %.3f while the reward rises: the training data shift "
                "the policy away from it (paper 5.3); mix such problems in again, or lower the learning rate",
                trainer.global_step,
                where,
                shift.group,
                shift.peak,
                shift.now,
            )
