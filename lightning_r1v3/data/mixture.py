"""Several shard sets read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from lightning_r1v3.data.batches import BatchPlan, SampleBatch
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.types import Sample


class Mixture(Dataset["Sample | None"]):
    """The samples of shard sets, counted one set after the other.

    As the dataset of a `DataLoader(mixture, batch_sampler=EpochBatches(…), collate_fn=…)` it reads a whole `BatchPlan`
    at once, and the collate function gets a `SampleBatch`.

    Args:
        sets: At least one.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        if not sets:
            raise ValueError("a mixture needs at least one shard set")
        self.sets = tuple(sets)
        self.sizes = tuple(len(shard_set) for shard_set in sets)
        """Samples of each set, as `SampleOrder` takes them."""
        self._ends = np.cumsum(self.sizes)

    def __len__(self) -> int:
        """Returns the number of samples of all sets."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Sample | None:
        """Reads one sample under its set's policy; None when it is bad and skipped."""
        which = int(np.searchsorted(self._ends, number, side="right"))
        return self.sets[which][number - int(self._ends[which] - self.sizes[which])]

    def __getitems__(self, plan: BatchPlan) -> SampleBatch:
        """Reads the samples of a plan, bad ones left out."""
        samples = (self[number] for number in plan.samples)
        return SampleBatch(tuple(sample for sample in samples if sample is not None), plan.epoch, plan.cursor)

    def field(self, name: Literal["domain", "difficulty"]) -> list[str]:
        """Returns a field of each sample; see `ShardSet.field`."""
        return [value for shard_set in self.sets for value in shard_set.field(name)]

    @property
    def num_bad(self) -> int:
        """Bad samples met so far in all sets."""
        return sum(shard_set.num_bad for shard_set in self.sets)
