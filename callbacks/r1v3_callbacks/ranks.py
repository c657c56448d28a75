"""Objects exchanged between the processes of a run. All processes must reach each of these."""

from __future__ import annotations

from typing import TypeVar

from lightning import Trainer
from torch import distributed

T = TypeVar("T")


def gather(value: T, trainer: Trainer) -> list[T]:
    """Returns every process's object, in the order of the ranks: what is decided from it is decided alike."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[T] = [value] * trainer.world_size
    distributed.all_gather_object(gathered, value)
    return gathered
