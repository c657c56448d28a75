"""Numbers and objects exchanged between the ranks of a launch. All ranks must reach each of these."""

from __future__ import annotations

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
