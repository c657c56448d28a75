"""Runs on the mini world, in this process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import SFT
from lightning_r1v3.modules.schedule import Schedule

ROOT = Path(__file__).parents[2]
PROMPT = PromptFormat(system_prompt=None)


def trainer(folder: Path, callbacks: list[Callback], **settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        default_root_dir=str(folder),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **({"limit_val_batches": 0} | settings),
    )


def shards(path: str, kind: str, batch_size: int, seed: int = 0) -> ShardDataModule:
    train = [Source(str(ROOT / f"data_shards/mini/{kind}-*.tar"))]
    return ShardDataModule(path, train, prompt=PROMPT, batch_size=batch_size, max_tokens=512, seed=seed)


def cold_start(folder: Path) -> str:
    """Returns the shipped base after three epochs of chains."""
    base = str(ROOT / "data_shards/mini/base")
    module = SFT(
        backbone=BackboneConfig(base),
        optimizer=partial(torch.optim.AdamW, lr=1.5e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_fraction=0.03),
        max_tokens_per_microbatch=4096,
    )
    seed_everything(0)
    trainer(folder, [], max_epochs=3).fit(module, shards(base, "sft", 16))
    module.model.export(folder / "hf")
    return str(folder / "hf")
