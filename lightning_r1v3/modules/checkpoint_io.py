"""Checkpoints in one file: written aside and renamed, read without unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lightning_r1v3.backbone.shard_files import sync_to_disk
from lightning_r1v3.backbone.sharded_state import is_sharded_checkpoint
from lightning_r1v3.strategy import VLMFSDPStrategy


class WholeCheckpointIO(TorchCheckpointIO):
    """A file appears when all of it is on the disk; a killed run leaves `NAME.partial` beside the older one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint to a local file.

        Args:
            checkpoint: What to save.
            path: Of the file; an older one there is replaced.
            storage_options: None.
        """
        assert storage_options is None, "checkpoints go to local files"
        path = Path(path)
        aside = path.with_name(f"{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, aside)
        sync_to_disk(aside)
        aside.replace(path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Returns a checkpoint of tensors, numbers, strings and their containers; anything else is refused.

        Raises:
            ValueError: It is a folder of shards.
        """
        if is_sharded_checkpoint(Path(path)):
            raise ValueError(
                f"ckpt_path {str(path)!r} is a sharded checkpoint: add -c configs/overlays/fsdp.yaml, on any number of "
                "processes"
            )
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return loaded


class CheckpointGuard(Callback):
    """Sees to it that checkpoints of one file are written whole."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the place of Lightning's own format; another one that the user chose stays."""
        sharded = isinstance(trainer.strategy, VLMFSDPStrategy)
        if not sharded and type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
