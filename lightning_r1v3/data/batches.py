"""Batches of positions: what a rank reads, and where in the data it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from lightning_r1v3.data.balanced_order import BalancedOrder
from lightning_r1v3.data.curriculum_order import CurriculumOrder
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.types import Sample

Order = SampleOrder | BalancedOrder | CurriculumOrder
"""Which sample stands at which position of an epoch: a pure function of (seed, epoch)."""


@dataclass(frozen=True)
class BatchPlan:
    """What one rank reads for one optimizer batch."""

    samples: tuple[int, ...]
    """Numbers of its samples; empty when the last batch has fewer samples than there are ranks."""
    epoch: int
    """Pass over the data, from 0."""
    cursor: int
    """Samples of this epoch consumed by all ranks together once this batch is trained."""


@dataclass(frozen=True)
class SampleBatch:
    """One rank's samples of one optimizer batch, as read."""

    samples: tuple[Sample, ...]
    """The good samples; may be empty."""
    epoch: int
    """Pass over the data, from 0."""
    cursor: int
    """Samples of this epoch consumed by all ranks together once this batch is trained."""


class EpochBatches(Sampler[BatchPlan]):
    """The batches of one rank over one epoch, from a cursor on: the `batch_sampler` of a loader.

    Batch k of an epoch covers the global positions `[k B, (k + 1) B)`; rank r reads those congruent to r modulo the
    world size. So (epoch, cursor) is the whole state and means the same at any number of ranks and workers; a cursor
    inside a batch (the batch size has changed) only makes the first batch smaller.

    Args:
        order: Which sample stands at which position.
        batch_size: Samples of a batch over all ranks.
        rank: This process, from 0.
        world_size: Number of processes.
        drop_last: Leave out a last batch that is not full.

    Raises:
        ValueError: If a number is out of range, or the epoch has no batch.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"expected batch_size >= 1 and 0 <= rank < world_size, got {batch_size}, {rank}, {world_size}"
            )
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.length = len(order) // batch_size * batch_size if drop_last else len(order)
        """Positions of an epoch that are trained."""
        if not self.length:
            raise ValueError(f"drop_last leaves no batch: {len(order)} samples, batch_size {batch_size}")
        self.epoch = 0
        self.cursor = 0

    def __len__(self) -> int:
        """Returns the number of batches of a whole epoch, wherever the cursor stands."""
        return math.ceil(self.length / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of another epoch; that of the present one stays where it was resumed."""
        if epoch != self.epoch:
            self.epoch, self.cursor = epoch, 0

    def resume(self, epoch: int, cursor: int) -> None:
        """Goes behind the first `cursor` positions of an epoch.

        Raises:
            ValueError: If the epoch has fewer positions: the shards are not those of the saved state.
        """
        if epoch < 0 or not 0 <= cursor <= self.length:
            raise ValueError(f"cannot resume at epoch {epoch}, cursor {cursor}: an epoch has {self.length} samples")
        self.epoch, self.cursor = epoch, cursor

    def __iter__(self) -> Iterator[BatchPlan]:
        """Yields the plans from the cursor to the end of the epoch."""
        epoch, start = self.epoch, self.cursor
        samples = self.order.epoch(epoch)
        while start < self.length:
            stop = min((start // self.batch_size + 1) * self.batch_size, self.length)
            first = start + (self.rank - start) % self.world_size
            yield BatchPlan(tuple(samples[first : stop : self.world_size].tolist()), epoch, stop)
            start = stop
