"""Ranks a run's checkpoints by what tells reasoning from imitation, and keeps the best ones (paper 5.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from r1v3_callbacks.checkpoint_files import on_rank_zero, point, remove, write_aside, write_text
from r1v3_callbacks.ranking import Entry, Ranking, score
from r1v3_callbacks.ranks import gather

FOLDER_NAME = "ranked"


class CheckpointRanker(Checkpoint):
    """Writes checkpoints, scores them, keeps the best `top_k` and the last one.

    The folder holds `step=000100.ckpt`, …, the links `best.ckpt` and `last.ckpt`, and `ranking.csv`: every checkpoint
    with its score and metrics, best first, and Spearman's correlation between entropy and accuracy over all of them
    with its interval of 95 %. Nothing is deleted before its successor is whole on the disk; a failed write is a
    warning, and the run goes on. The best checkpoint with a finite score is never deleted.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        top_k: int = 3,
        every_n_steps: int | None = None,
        dirpath: str | None = None,
        entropy: str = "train/critical_token_entropy",
        accuracy: str = "val/accuracy",
    ) -> None:
        """Stores the settings.

        Args:
            weights: The score is the sum of these metrics, each times its weight; by default validation accuracy alone.
                `{val/accuracy: 1.0, train/critical_token_entropy: 0.1}` is a mix; a weight below 0 prefers low values.
            top_k: Checkpoints kept, the last one beside them.
            every_n_steps: Optimizer steps between checkpoints; by default one follows each run of validation.
            dirpath: The folder; by default `ranked` in the run's.
            entropy: Metric that is correlated with accuracy. One that is logged in training is averaged over the steps
                since the checkpoint before.
            accuracy: Metric that it is correlated with.

        Raises:
            ValueError: A number is out of its range, nothing is weighed, or the folder is not a local one.
        """
        super().__init__()
        self.weights = {accuracy: 1.0} if weights is None else dict(weights)
        if top_k < 1 or (every_n_steps is not None and every_n_steps < 1) or not self.weights:
            raise ValueError(
                f"expected top_k and every_n_steps of at least 1 and some weights, got top_k {top_k}, "
                f"every_n_steps {every_n_steps}, weights {self.weights}"
            )
        if dirpath is not None and "://" in dirpath:
            raise ValueError(f"dirpath: expected a local folder, where files can be renamed, got {dirpath}")
        self.top_k = top_k
        self.every_n_steps = every_n_steps
        self.dirpath = dirpath
        self.entropy = entropy
        self.accuracy = accuracy
        self.ranking = Ranking()
        self._entropy_sum, self._entropy_count = 0.0, 0
        self._last_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the folder; all processes must reach this."""
        run_folder = trainer.log_dir or trainer.default_root_dir
        own = Path(self.dirpath) if self.dirpath is not None else Path(run_folder) / FOLDER_NAME
        self.folder: Path = gather(own, trainer)[0]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks which of the earlier checkpoints are still there."""
        present = [entry.file for entry in self.ranking.entries if (self.folder / entry.file).exists()]
        self.ranking.mark(gather(present, trainer)[0])
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds up the entropy; ranks a checkpoint where one is due by steps."""
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        value = trainer.callback_metrics.get(self.entropy)
        if value is not None and self.entropy.startswith("train"):
            self._entropy_sum += float(value)
            self._entropy_count += 1
        if self.every_n_steps is not None and step % self.every_n_steps == 0:
            self._rank(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ranks a checkpoint where each run of validation makes one."""
        if self.every_n_steps is None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._rank(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns the ranking and the entropy since the last checkpoint."""
        return {
            "entries": self.ranking.state_dict(),
            "entropy_sum": self._entropy_sum,
            "entropy_count": self._entropy_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again; the files are looked for when training starts."""
        self.ranking = Ranking(Entry(**entry) for entry in state_dict["entries"])
        self._entropy_sum, self._entropy_count = state_dict["entropy_sum"], state_dict["entropy_count"]

    def _metrics(self, trainer: Trainer) -> dict[str, float]:
        """The metrics that matter, means over the processes; all processes must reach this."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._entropy_count:
            logged[self.entropy] = self._entropy_sum / self._entropy_count
        everywhere = gather(logged, trainer)
        common = set.intersection(*map(set, everywhere))
        return {name: math.fsum(metrics[name] for metrics in everywhere) / len(everywhere) for name in common}

    def _rank(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == 0 or step in {entry.step for entry in self.ranking.entries if entry.kept}:
            return
        metrics = self._metrics(trainer)
        value = score(metrics, self.weights)
        known = {name: metrics[name] for name in {*self.weights, self.entropy, self.accuracy} if name in metrics}
        before, sums = self.ranking.entries, (self._entropy_sum, self._entropy_count)
        # The checkpoint holds the state of this callback, and so must know of itself.
        self.ranking.add(Entry(step, f"step={step:06d}.ckpt", value, known))
        self._entropy_sum, self._entropy_count = 0.0, 0
        path = self.folder / self.ranking.entries[-1].file
        made = on_rank_zero(lambda: self.folder.mkdir(parents=True, exist_ok=True), self.folder, trainer)
        if not (made and write_aside(trainer.save_checkpoint, path, trainer)):
            self.ranking.entries, (self._entropy_sum, self._entropy_count) = before, sums
            return
        superfluous = self.ranking.superfluous(self.top_k)
        if on_rank_zero(lambda: self._tidy(superfluous), path, trainer):
            gone = {entry.file for entry in superfluous}
            self.ranking.mark(entry.file for entry in self.ranking.entries if entry.kept and entry.file not in gone)

    def _tidy(self, superfluous: list[Entry]) -> None:
        """Links and table first, so that whatever fails leaves files too many and none too few."""
        point(self.folder / "last.ckpt", self.ranking.entries[-1].file)
        if best := self.ranking.best():
            point(self.folder / "best.ckpt", best.file)
        for entry in superfluous:
            remove(self.folder / entry.file)
        gone = {entry.file for entry in superfluous}
        kept = Ranking(self.ranking.entries)
        kept.mark(entry.file for entry in kept.entries if entry.kept and entry.file not in gone)
        write_text(self.folder / "ranking.csv", kept.table(self.entropy, self.accuracy))
