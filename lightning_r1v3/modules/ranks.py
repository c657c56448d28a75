"""Numbers and objects exchanged between the ranks of a launch. All ranks must reach each of these."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

from lightning import Trainer
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

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


def gradient_exchange(model: nn.Module | None, *, last: bool) -> AbstractContextManager[None]:
    """Returns in what to run a row's backward pass: with DDP, gradients are exchanged with the step's last row alone.

    FSDP exchanges them with every row: between rows it would otherwise keep whole gradients on every process.
    """
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def whole_value(number: Tensor) -> float:
    """Returns a number that may be sharded, such as the norm of sharded gradients; then all ranks must reach this."""
    return float(number.full_tensor() if isinstance(number, DTensor) else number)


def leave_process_group() -> None:
    """Ends the process group of a launch that went well, while the interpreter is whole; all ranks must reach this.

    Lightning does so for NCCL alone. Gloo's threads hold tensors of the last collective; one that lets go of them while
    the interpreter ends aborts the process, after all the work is done.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # the trainer, full of cycles, would keep the group alive
        distributed.destroy_process_group()
