"""Numbers and objects exchanged between the ranks of a launch. All ranks must reach each of these."""

from __future__ import annotations

import gc
from typing import Literal, TypeVar

from lightning import Trainer
from torch import Tensor, distributed

T = TypeVar("T")


def reduce_across_ranks(values: Tensor, trainer: Trainer, how: Literal["sum", "max"] = "sum") -> Tensor:
    """Returns the element-wise sum or maximum over all ranks, on the device of `values`."""
    if trainer.world_size == 1:
        return values
    reduced: Tensor = trainer.strategy.reduce(values, reduce_op=how)
    return reduced


def gather_across_ranks(value: T, trainer: Trainer) -> list[T]:
    """Returns every rank's object, in the order of the ranks."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[T] = [value] * trainer.world_size
    distributed.all_gather_object(gathered, value)
    return gathered


def leave_process_group() -> None:
    """Ends the process group of a launch that went well, while the interpreter is whole; all ranks must reach this.

    Lightning does so for NCCL alone. Gloo's threads hold tensors of the last collective; one that lets go of them while
    the interpreter ends aborts the process, after all the work is done.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # the trainer, full of cycles, would keep the group alive
        distributed.destroy_process_group()
