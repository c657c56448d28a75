"""What the callbacks cost of a GRPO step: steps with them and without, taken in turns in one run.

The module, its data and its weights are the same throughout; in every other step the callbacks' hooks are not called.
Their share is the time spent in the hooks over the time of the steps that have them. The medians of both kinds of steps
stand beside it; their difference is noisy, because completions differ in length.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning_r1v3  # noqa: F401  (before lightning imports torchvision)

# isort: split
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from report import report

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import GRPO
from lightning_r1v3.types import Sampling
from r1v3_callbacks import (
    CheckpointRanker,
    CollapseDetector,
    CriticalTokenEntropy,
    DomainShiftAlarm,
    HallucinationMonitor,
    Recovery,
    ThroughputMonitor,
)

REPOSITORY = Path(__file__).parents[2]
CHECKPOINT = str(REPOSITORY / "data_shards/mini/base")
SEED = 0
NUM_WARMUP_STEPS = 2
NUM_PROMPTS, GROUP_SIZE = 16, 8
MAX_SHARE = 0.02


class InTurns(Callback):
    """Calls the callbacks after every other step, and takes the time."""

    def __init__(self, watched: list[Callback]) -> None:
        self.watched = watched
        self.steps: dict[bool, list[float]] = {True: [], False: []}
        self.hooks: dict[str, list[float]] = {type(callback).__name__: [] for callback in watched}
        self._start = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for callback in self.watched:
            callback.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in self.watched:
            callback.on_train_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        with_them = batch_idx % 2 == 1
        for callback in self.watched if with_them else []:
            start = time.perf_counter()
            callback.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if batch_idx >= NUM_WARMUP_STEPS:
                self.hooks[type(callback).__name__].append(time.perf_counter() - start)
        if batch_idx >= NUM_WARMUP_STEPS:
            self.steps[with_them].append(time.perf_counter() - self._start)


def callbacks() -> list[Callback]:
    """Returns them all; a checkpoint is written every 20 steps, as by default."""
    return [
        CriticalTokenEntropy(high_entropy_quantile=0.95),
        HallucinationMonitor(),
        DomainShiftAlarm(),
        ThroughputMonitor(),
        CollapseDetector(action="rollback", recovery=Recovery(every_n_steps=10)),  # it sees every other step
        CheckpointRanker(weights={"train/reward": 1.0}, every_n_steps=20),
    ]


def run(folder: Path, backbone: str, num_steps: int) -> InTurns:
    """Trains and returns the times."""
    seed_everything(SEED)
    turns = InTurns(callbacks())
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=num_steps,
        callbacks=[turns],
        logger=CSVLogger(str(folder), "", ""),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    shards = ShardDataModule(
        backbone,
        train=[Source(str(REPOSITORY / "data_shards/mini/rl-*.tar"))],
        prompt=PromptFormat(system_prompt=None),
        batch_size=NUM_PROMPTS,
        seed=SEED,
    )
    module = GRPO(
        sampling=Sampling(group_size=GROUP_SIZE, temperature=1.0, max_new_tokens=192),
        backbone=BackboneConfig(backbone),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-5, weight_decay=0.0),
        max_tokens_per_microbatch=8192,
    )
    trainer.fit(module, shards)
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=42)
    parser.add_argument("--backbone", default=CHECKPOINT, help="e.g. runs/sft/hf, which reasons at length")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        turns = run(Path(folder), arguments.backbone, arguments.steps)
    total = sum(turns.steps[True])
    shares = {name: sum(seconds) / total for name, seconds in turns.hooks.items()}
    share = sum(shares.values())
    figures = {
        "share_of_step": round(share, 5),
        "share_by_callback": {name: round(value, 5) for name, value in shares.items()},
        "median_step_s": {
            "with": round(statistics.median(turns.steps[True]), 3),
            "without": round(statistics.median(turns.steps[False]), 3),
        },
        "steps": {"with": len(turns.steps[True]), "without": len(turns.steps[False])},
        "completions_per_step": NUM_PROMPTS * GROUP_SIZE,
        "threads": arguments.threads,
        "met": share < MAX_SHARE,
    }
    report("callback_cost", figures, seed=SEED)


if __name__ == "__main__":
    main()
