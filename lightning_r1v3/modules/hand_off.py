"""Hand-off: when a fit ends the model goes to `RUN/hf`, which the next stage, transformers and vLLM load as it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.strategy import VLMFSDPStrategy

log = logging.getLogger(__name__)

Export = Literal["auto", "best", "last"]
"""Which weights are handed off. `auto`: the best ones where a ModelCheckpoint monitors a metric, else the last ones."""

FOLDER_NAME = "hf"
_PREFIX = "backbone."
"""Of the backbone's weights in a checkpoint."""


def check_export(export: Export, trainer: Trainer) -> None:
    """Checks, before anything is trained, that there will be such weights.

    Raises:
        ValueError: The best ones are asked for, and nothing says which these are.
    """
    if export == "best" and _monitor(trainer) is None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ValueError("export: best needs a ModelCheckpoint callback with `monitor`; add one, or use export: last")


def hand_off(backbone: Backbone, trainer: Trainer, export: Export) -> None:
    """Exports the model to `RUN/hf`; after that `backbone` holds the exported weights. All ranks must reach this.

    Args:
        backbone: The model with its last weights.
        trainer: Whose fit has ended.
        export: Which weights.
    """
    run_folder = trainer.log_dir  # all ranks must reach this: it is broadcast
    strategy = trainer.strategy
    takes_part = trainer.is_global_zero or isinstance(strategy, VLMFSDPStrategy)  # sharded weights are gathered
    if run_folder is None or trainer.fast_dev_run or not takes_part:  # type: ignore[attr-defined]
        return
    which = "last"
    monitor = _monitor(trainer) if export != "last" else None
    if monitor is not None and monitor.best_model_path:
        if isinstance(strategy, VLMFSDPStrategy):
            strategy.load_weights(Path(monitor.best_model_path))
        else:
            weights = _backbone_weights(monitor.best_model_path)
            backbone.load_state_dict(weights, strict=not backbone.is_quantised)
        which = f"best ({monitor.monitor}, {Path(monitor.best_model_path).name})"
    elif monitor is not None:
        log.warning("no checkpoint was written for %s: there are no best weights to export", monitor.monitor)
    folder = Path(run_folder) / FOLDER_NAME
    backbone.export(folder)
    log.info("exported the %s weights to %s", which, folder)


def _backbone_weights(checkpoint: str) -> dict[str, Tensor]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}


def _monitor(trainer: Trainer) -> ModelCheckpoint | None:
    callbacks = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return next((callback for callback in callbacks if callback.monitor is not None), None)
