"""The folder of a run, `runs/NAME`: its logs, its checkpoints, and the earlier run of that name."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from lightning_r1v3.backbone.sharded_state import recover_checkpoints

log = logging.getLogger(__name__)

RUNS = Path("runs")
"""Everything that a run writes is below `runs/NAME/`."""

FLUSH_STEPS = 10
"""Logging steps between writes of `metrics.csv`: what a killed run may lose."""


class ContinuedCSVLogger(CSVLogger):
    """Goes on with the `metrics.csv` of the run that is resumed; Lightning's own deletes it.

    Steps that a killed run made after its last checkpoint are there twice: the later line counts.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the file."""
        if not isinstance(self._experiment, ExperimentWriter):
            path = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
            earlier = path.read_text() if path.exists() else ""
            path.unlink(missing_ok=True)
            self._experiment = ExperimentWriter(log_dir=self.log_dir)
            if earlier:
                path.write_text(earlier)
                self._experiment.metrics_keys = next(csv.reader(earlier.splitlines()))
        return self._experiment


def run_loggers(folder: Path) -> list[Logger]:
    """Returns the loggers of a run: CSV and TensorBoard, in its folder."""
    return [
        ContinuedCSVLogger(str(folder.parent), folder.name, version="", flush_logs_every_n_steps=FLUSH_STEPS),
        TensorBoardLogger(str(folder.parent), folder.name, version=""),
    ]


@rank_zero_only
def keep_earlier_run(folder: Path) -> None:
    """Renames an earlier run's folder to `NAME.1`, `NAME.2`, …: a new run starts empty, and nothing is lost."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    kept = folder.rename(folder.with_name(f"{folder.name}.{number}"))
    log.info("kept the earlier %s as %s", folder, kept)


def find_checkpoint(ckpt_path: str, folder: Path) -> str:
    """Returns the checkpoint that `--ckpt_path` means; one that was half written (`NAME.ckpt.partial`) is never meant.

    Args:
        ckpt_path: A path, or `last` for the one written last in the run's folder.
        folder: The run's.

    Raises:
        ValueError: There is no such checkpoint.
    """
    recover_checkpoints(folder / "checkpoints")
    there = (path for path in (folder / "checkpoints").glob("*.ckpt") if path.exists())  # a link may lead nowhere
    written = sorted(there, key=os.path.getmtime)
    if ckpt_path == "last" and written:
        return str(written[-1])
    if not Path(ckpt_path).exists():
        found = ", ".join(path.name for path in written) or "no checkpoint"
        raise ValueError(f"ckpt_path {ckpt_path!r}: no such file; {folder / 'checkpoints'} holds {found}")
    return ckpt_path
