"""A rollout engine that is lost for good: the run keeps what it has learnt."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from lightning_r1v3.rollout.errors import RolloutError

log = logging.getLogger(__name__)


class OutageGuard(Callback):
    """Saves a checkpoint of the last whole step before a `RolloutError` ends the run."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves; GRPO raises the error on all ranks or on none."""
        if not isinstance(exception, RolloutError) or not trainer.training:
            return
        path = Path(trainer.default_root_dir) / "checkpoints" / f"outage-step={trainer.global_step}.ckpt"
        trainer.save_checkpoint(path)
        log.error("rollouts failed: saved %s, from where --ckpt_path last goes on", path)
