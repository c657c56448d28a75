"""Random access to the samples of local shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from lightning_r1v3.data.faults import BadSamplePolicy, Fault, check_policy, handle_fault
from lightning_r1v3.data.members import group_sample
from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS, check_max_image_pixels
from lightning_r1v3.data.sample import parse_record
from lightning_r1v3.data.shard_index import index_shard
from lightning_r1v3.data.shard_paths import expand_paths
from lightning_r1v3.data.shared_zeros import shared_zeros
from lightning_r1v3.types import Sample


class ShardSet(Dataset["Sample | None"]):
    """The samples of some shards, in file order.

    Building it reads the tars' headers; each access opens its shard anew, so workers and threads may share one. Bad
    samples are found by whichever worker meets them and counted once for all (in shared memory).

    Args:
        shards: Paths, globs (`shards/*.tar`) or brace patterns (`train-{000..012}.tar`).
        on_bad_sample: `skip` logs each bad sample once and returns None for it; `raise` stops.
        max_image_pixels: Bound on a picture's width x height; a larger one is refused by its header, not decoded.

    Raises:
        ValueError: If a pattern matches nothing, an option is out of range, no sample can be read or, under
            `raise`, a shard has a fault that its headers show.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        *,
        on_bad_sample: BadSamplePolicy = "skip",
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        check_policy(on_bad_sample)
        check_max_image_pixels(max_image_pixels)
        self.on_bad_sample: BadSamplePolicy = on_bad_sample
        self.max_image_pixels = max_image_pixels
        self.indexes = tuple(index_shard(path) for path in expand_paths(shards))
        self.index_faults: tuple[Fault, ...] = tuple(fault for index in self.indexes for fault in index.faults)
        for fault in self.index_faults:
            handle_fault(fault, on_bad_sample)
        self._ends = np.cumsum([len(index) for index in self.indexes])
        if not len(self):
            raise ValueError(f"no readable sample in {shards!r}: {len(self.index_faults)} faults are in the log")
        self._is_bad = shared_zeros(len(self))

    def __len__(self) -> int:
        """Returns the number of samples that the headers show, bad contents not yet discounted."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Sample | None:
        """Reads one sample.

        Returns:
            The sample, or None when it is bad and the policy is `skip`.

        Raises:
            ValueError: If it is bad and the policy is `raise`.
        """
        shard, offset = self.locate(number)
        group = self.indexes[shard].read(offset)
        try:
            return group_sample(group, self.max_image_pixels)
        except ValueError as error:
            fault = Fault(str(self.indexes[shard].path), group.key, str(error))
        if not self._is_bad[number] or self.on_bad_sample == "raise":
            handle_fault(fault, self.on_bad_sample)
        self._is_bad[number] = 1
        return None

    def field(self, name: Literal["domain", "difficulty"]) -> list[str]:
        """Returns a field of each sample, out of its record alone; empty where it has none or cannot be read."""
        return [_text(index.read_record(number), name) for index in self.indexes for number in range(len(index))]

    @property
    def num_bad(self) -> int:
        """Faults met so far by all workers of this process: those of the headers and the bad samples read."""
        return len(self.index_faults) + int(self._is_bad.sum())

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the shard's number and the sample's number in it.

        Raises:
            IndexError: If there is no such sample.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - (int(self._ends[shard - 1]) if shard else 0)


def _text(encoded: bytes, name: str) -> str:
    try:
        value = parse_record(encoded).get(name)
    except ValueError:
        return ""  # the fault is named when the sample is read
    return value if isinstance(value, str) else ""
