"""Going back to a good checkpoint, and lowering the learning rate so that no schedule undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer
from torch.optim import Optimizer


def save_weights(trainer: Trainer, path: Path) -> None:
    """Writes weights and optimizer state, nothing else; all processes must reach this.

    Loops, callbacks and schedules are left out, because a run that goes back in weights goes on in data and in time.
    """
    strategy = trainer.strategy
    state = {
        "state_dict": strategy.lightning_module_state_dict(),
        "optimizer_states": [strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers],
    }
    strategy.save_checkpoint(state, path)
    strategy.barrier("weights written")


def load_weights(trainer: Trainer, path: Path) -> None:
    """Restores what `save_weights` wrote, the learning rates left as they are; all processes must reach this."""
    strategy = trainer.strategy
    rates = [_rates(optimizer) for optimizer in trainer.optimizers]
    # Sharded strategies load in place, and do nothing in the two calls after it.
    state = strategy.load_checkpoint(path, weights_only=True)
    strategy.load_model_state_dict(state, strict=trainer.lightning_module.strict_loading)
    strategy.load_optimizer_state_dict(state)
    for optimizer, groups in zip(trainer.optimizers, rates, strict=True):
        for group, rate in zip(optimizer.param_groups, groups, strict=True):
            group.update(rate)
    strategy.barrier("weights restored")


def scale_learning_rates(trainer: Trainer, factor: float) -> None:
    """Multiplies every learning rate, and what its schedule computes it from, by a factor."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group.update({name: rate * factor for name, rate in _rate(group).items()})
    for config in trainer.lr_scheduler_configs:
        _scale_schedule(config.scheduler, factor)


def learning_rates(optimizers: Sequence[Optimizer]) -> list[float]:
    """Returns the learning rate of each parameter group."""
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


def _rates(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [_rate(group) for group in optimizer.param_groups]


def _rate(group: dict[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("lr", "initial_lr") if name in group}


def _scale_schedule(scheduler: Any, factor: float) -> None:
    """Schedules keep the base rates in `base_lrs`, and compound ones their parts in `_schedulers`."""
    for part in getattr(scheduler, "_schedulers", ()):
        _scale_schedule(part, factor)
    if rates := getattr(scheduler, "base_lrs", None):
        scheduler.base_lrs = [rate * factor for rate in rates]
