"""Progress as lines of text, for logs and continuous integration, where a progress bar is thousands of lines."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

log = logging.getLogger(__name__)


class ProgressLines(ProgressBar):
    """Says every so often how far the run is, how fast, and what its progress-bar metrics are."""

    def __init__(self, interval_s: float = 15.0) -> None:
        """Stores the settings.

        Args:
            interval_s: Seconds between two lines.
        """
        super().__init__()
        self.interval_s = interval_s
        self._enabled = True
        self._start(0)

    def disable(self) -> None:
        """Says nothing; Lightning calls it on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Says something again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start(trainer.fit_loop.total_batch_idx + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Says where training is."""
        step = trainer.fit_loop.total_batch_idx + 1
        metrics = self.get_metrics(trainer, pl_module)
        shown = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, float)]
        self._say("step", step, trainer.estimated_stepping_batches, [f"epoch {trainer.current_epoch}", *shown])

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start(0)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Says where prediction is."""
        self._say("batch", batch_idx + 1, sum(trainer.num_predict_batches), [])

    def _start(self, number: int) -> None:
        self._first, self._started = number, time.monotonic()
        self._said = self._started

    def _say(self, unit: str, number: int, total: float, details: list[str]) -> None:
        now = time.monotonic()
        if not self._enabled or (now - self._said < self.interval_s and number != total):
            return
        self._said = now
        seconds = (now - self._started) / (number - self._first)
        left = str(timedelta(seconds=round(seconds * (total - number)))) if total != float("inf") else "unknown"
        speed = f"{seconds:.2f} s a {unit}, {left} left"
        log.info("%s", ", ".join([f"{unit} {number}/{total:g}", speed, *details]))
