"""Our side of the SFT benchmark, in a process of its own; prints what the peer's side prints."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from own_trainer import Clock, quiet_trainer
from sft_inputs import PROMPT, SEED

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.modules import SFT
from lightning_r1v3.types import ExampleBatch


class TokenCount(Callback):
    """Notes the tokens of each step's samples."""

    def __init__(self) -> None:
        self.real: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ExampleBatch, batch_idx: int
    ) -> None:
        self.real.append(sum(example.num_tokens for example in batch.examples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what sft_inputs.py wrote")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    arguments = parser.parse_args()
    model_folder = str(arguments.folder / "model")
    clock, count = Clock(), TokenCount()
    trainer = quiet_trainer(arguments.folder / "own", [clock, count])
    optimizer = functools.partial(torch.optim.AdamW, lr=arguments.learning_rate, weight_decay=0.0)
    shards = ShardDataModule(
        model_folder,
        train=[Source(str(arguments.folder / "train-*.tar"))],
        prompt=PROMPT,
        batch_size=arguments.batch_size,
        seed=SEED,
    )
    trainer.fit(SFT(BackboneConfig(model_folder), optimizer=optimizer), shards)
    print(
        json.dumps({"ends": clock.ends, "cpu_ends": clock.cpu_ends, "real_tokens": count.real, "losses": clock.losses})
    )


if __name__ == "__main__":
    main()
