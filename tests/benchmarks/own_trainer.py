"""Lightning's Trainer as our side of every benchmark uses it, and its clock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Clock(Callback):
    """Notes when each step ends, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu_ends: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())
        self.losses.append(float(outputs["loss"]))


def quiet_trainer(folder: Path, callbacks: list[Callback], *, max_steps: int = -1) -> Trainer:
    """Returns a trainer on the CPU that takes one epoch, or as many steps, and logs and keeps nothing."""
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        max_steps=max_steps,
        default_root_dir=folder,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
