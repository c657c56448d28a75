"""Notices that a run collapses, says by what, and acts (paper 5.2, 5.4, 5.5)."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from r1v3_callbacks.checkpoint_files import on_rank_zero
from r1v3_callbacks.collapse_facts import FactsPart, facts_of, facts_part
from r1v3_callbacks.collapse_rules import RULES, Limits
from r1v3_callbacks.collapse_settings import ACTIONS, Action, Recovery, Timing
from r1v3_callbacks.collapse_watch import Alarm, CollapseWatch
from r1v3_callbacks.contract import Keys, entries
from r1v3_callbacks.recovery import learning_rates, scale_learning_rates
from r1v3_callbacks.snapshots import Snapshots
from r1v3_callbacks.step_callback import StepCallback

log = logging.getLogger(__name__)

FOLDER_NAME, FILE_NAME = "collapse", "collapse.jsonl"


class CollapseDetector(StepCallback):
    """Raises an alarm for each sign of a collapse, and acts on it; all processes decide alike.

    Signs: `entropy_collapse`, `entropy_surge`, `reward_fall`, `accuracy_fall`, `grad_norm_spikes`, `repetition`,
    `length_runaway`, `learning_rate_too_high`, `not_finite`. Actions: `warn`; `reduce_lr`; `rollback`: weights and
    optimizer state of the last good checkpoint, and a lower learning rate, until the run has gone back too often and
    stops; `stop`. A schedule does not undo the lower rate. Every alarm is logged with its evidence, and is a line of
    `collapse.jsonl` in the run's folder. Metrics: `collapse/severity` is the gravest sign of the step (1: at its
    limit), `collapse/num_raised` the number of alarms up, `collapse/num_rollbacks` how often the run has gone back.
    """

    def __init__(
        self,
        action: Action = "warn",
        actions: Mapping[str, Action] | None = None,
        limits: Limits | None = None,
        timing: Timing | None = None,
        recovery: Recovery | None = None,
        grad_norm: str = "train/grad_norm",
        keys: Keys | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            action: What an alarm leads to.
            actions: … where it differs by sign, e.g. `{repetition: stop}`.
            limits: What counts as a sign.
            timing: When an alarm is raised.
            recovery: How the run goes back or slows down.
            grad_norm: Metric that the module logs of the gradient norm before clipping. Where there is none the norm is
                taken before the optimizer's step, which under manual optimization may be after clipping.
            keys: Names of the entries of the dict that the step returns; `rewards` and `accuracy` may be
                missing.

        Raises:
            ValueError: An action or a sign is unknown.
        """
        super().__init__(keys)
        self.actions: dict[str, Action] = dict.fromkeys(RULES, action) | dict(actions or {})
        if unknown := {*self.actions.values()} - {*ACTIONS} or {*self.actions} - {*RULES}:
            raise ValueError(f"expected actions of {list(ACTIONS)} for signs of {list(RULES)}, got {sorted(unknown)}")
        timing = timing or Timing()
        self.quiet_steps = timing.quiet_steps
        self.recovery = recovery or Recovery()
        self.grad_norm = grad_norm
        self.watch = CollapseWatch(
            limits or Limits(),
            warmup_steps=timing.warmup_steps,
            patience=timing.patience,
            num_reference=timing.num_reference,
        )
        self.num_rollbacks = 0
        self._snapshots = Snapshots(self.recovery.trial_steps)
        self._num_steps = 0
        self._own_norm = math.nan
        self._is_logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run's folder; all processes must reach this."""
        self._run_folder = Path(trainer.log_dir or trainer.default_root_dir)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the first checkpoint to go back to; all processes must reach this."""
        super().on_train_start(trainer, pl_module)
        if "rollback" in self.actions.values():
            given = self.recovery.dirpath
            self._snapshots.open(self._run_folder / FOLDER_NAME if given is None else Path(given), trainer)
            if not self._snapshots.taken:
                self._take_snapshot(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Takes the gradient norm, where the module does not log it."""
        if self._is_logged:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._own_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> FactsPart:
        """Returns the counts of a micro-batch."""
        names = (self.keys.loss, self.keys.token_entropy, self.keys.token_ids, self.keys.token_mask)
        loss, entropy, token_ids, mask = entries(outputs, names, "CollapseDetector")
        logged = trainer.callback_metrics.get(self.grad_norm)
        self._is_logged = logged is not None
        norm, self._own_norm = self._own_norm if logged is None else float(logged), math.nan
        # Not known is NaN; what is known and is no number counts as infinite.
        known = self._is_logged or not math.isnan(norm)
        return facts_part(
            entropy,
            token_ids,
            mask,
            loss=float(loss),
            rewards=outputs.get(self.keys.rewards),
            accuracy=outputs.get(self.keys.accuracy),
            grad_norm=math.inf if known and not math.isfinite(norm) else norm,
        )

    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[FactsPart]) -> None:
        """Looks for signs, acts, and keeps a checkpoint now and then."""
        self._num_steps += 1
        alarms = self.watch.add(facts_of(parts))
        severity = max(self.watch.severities.values())
        num_raised = len(self.watch.raised)
        if alarms:
            self._act(trainer, alarms)
        elif self._is_due():
            self._take_snapshot(trainer)
        pl_module.log_dict(
            {
                "collapse/severity": severity,
                "collapse/num_raised": float(num_raised),
                "collapse/num_rollbacks": float(self.num_rollbacks),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns what it remembers of the run."""
        return super().state_dict() | {
            "watch": self.watch.state_dict(),
            "num_steps": self._num_steps,
            "num_rollbacks": self.num_rollbacks,
            "snapshots": list(self._snapshots.taken),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up again; the checkpoints to go back to are looked for when training starts."""
        super().load_state_dict(state_dict)
        self.watch.load_state_dict(state_dict["watch"])
        self._num_steps, self.num_rollbacks = state_dict["num_steps"], state_dict["num_rollbacks"]
        self._snapshots.taken = list(state_dict["snapshots"])

    def _is_due(self) -> bool:
        used = "rollback" in self.actions.values()
        return used and self.watch.is_healthy and self._num_steps % self.recovery.every_n_steps == 0

    def _take_snapshot(self, trainer: Trainer) -> None:
        self._snapshots.take(trainer, self._num_steps, self.watch.state_dict())

    def _act(self, trainer: Trainer, alarms: list[Alarm]) -> None:
        """Takes the strongest of the actions that the alarms lead to; all processes must reach this."""
        action = max((self.actions[alarm.sign] for alarm in alarms), key=ACTIONS.index)
        done = "warned"
        if action == "reduce_lr":
            done = self._reduce_learning_rate(trainer)
        elif action == "rollback":
            done = self._go_back(trainer)
        elif action == "stop":
            done = self._stop(trainer)
        self._report(trainer, alarms, done)

    def _reduce_learning_rate(self, trainer: Trainer) -> str:
        scale_learning_rates(trainer, self.recovery.lr_factor)
        self.watch.pause(self.quiet_steps)
        return f"learning rate times {self.recovery.lr_factor:g}"

    def _go_back(self, trainer: Trainer) -> str:
        if self.num_rollbacks >= self.recovery.max_rollbacks:
            return f"{self._stop(trainer)} after {self.num_rollbacks} rollbacks"
        good = self._snapshots.restore(trainer, self._num_steps)
        if good is None:
            return f"{self._stop(trainer)}: there is no checkpoint to go back to"
        self.num_rollbacks += 1
        self.watch.load_state_dict(good["memory"])
        slowed = self._reduce_learning_rate(trainer)
        back = self._num_steps - good["step"]
        return f"back by {back} steps, rollback {self.num_rollbacks} of {self.recovery.max_rollbacks}; {slowed}"

    def _stop(self, trainer: Trainer) -> str:
        trainer.should_stop = True
        return "stopped"

    def _report(self, trainer: Trainer, alarms: list[Alarm], done: str) -> None:
        rates = learning_rates(trainer.optimizers)
        lines = [
            {"step": trainer.global_step, "sign": alarm.sign, "severity": alarm.severity, "done": done}
            | {"learning_rates": rates, "evidence": alarm.evidence}
            for alarm in alarms
        ]
        if trainer.is_global_zero:
            for line in lines:
                log.warning("%s", json.dumps(line))
        path = self._run_folder / FILE_NAME
        on_rank_zero(lambda: _append(path, lines), path, trainer)


def _append(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
