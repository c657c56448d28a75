"""Pre-emption: when the machine is to be taken away, the run saves a checkpoint and leaves."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lightning_r1v3.modules.ranks import reduce_across_ranks

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send; SLURM's `--signal=USR1@300` five minutes ahead."""
EXIT_CODE = 128 + signal.SIGTERM
"""What a shell reports of a process that SIGTERM ended: a script must not take the run for a finished one."""


class Preempted(SystemExit):
    """The run has saved a checkpoint and leaves."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class PreemptionGuard(Callback):
    """Ends the run after the step in which any process got SIGTERM or SIGUSR1, with a checkpoint of that step.

    In place of Lightning's own handlers, which start collectives in the middle of others and so hang sharded runs.
    """

    def __init__(self) -> None:
        self._requested = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over; Lightning gives them back when the fit ends."""
        self._requested = False
        for number in SIGNALS:
            signal.signal(number, self._request)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and leaves, if a process was asked to; all ranks must reach this.

        Raises:
            Preempted: It was.
        """
        requested = torch.tensor(float(self._requested), device=trainer.strategy.root_device)
        if not reduce_across_ranks(requested, trainer, "max"):
            return
        folder = Path(trainer.default_root_dir) / "checkpoints"
        path = folder / f"preempted-step={trainer.global_step}.ckpt"
        trainer.save_checkpoint(path)
        log.warning("asked to stop: saved %s, from where --ckpt_path last goes on", path)
        raise Preempted

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
