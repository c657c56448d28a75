"""Shards that cannot be indexed (URLs, pipes), as an endless stream cut into epochs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import IterableDataset, get_worker_info

from lightning_r1v3.data.batches import SampleBatch
from lightning_r1v3.data.faults import BadSamplePolicy, Fault, check_policy, handle_fault
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS, check_max_image_pixels
from lightning_r1v3.data.shard_paths import expand_braces
from lightning_r1v3.data.shared_zeros import shared_zeros
from lightning_r1v3.data.stream_reader import read_stream
from lightning_r1v3.types import Sample

log = logging.getLogger(__name__)


class ShardStream(IterableDataset[SampleBatch]):
    """Batches of one rank from shards that can only be read from their beginning.

    Use it as `DataLoader(stream, batch_size=None, collate_fn=…, num_workers=…)`. Shards are dealt out to ranks, then to
    workers; each worker reads its own in the order of (seed, epoch), the samples of a shard in file order, again and
    again until the epoch is full, so that all ranks make the same number of batches.

    A resumed epoch reads exactly the batches that remain only at the same world size and number of workers: another
    split deals the shards out differently. It reads and discards what was trained already.

    Args:
        shards: URLs, `pipe:COMMAND` (run by the shell: trust who writes it) or paths, with braces expanded.
        batch_size: Samples of a batch over all ranks, a multiple of `world_size`.
        batches_per_epoch: Length of an epoch: a stream has none of its own.
        seed: Of the order of shards, at least 0.
        shuffle: False for the order given.
        rank: This process, from 0.
        world_size: Number of processes.
        on_bad_sample: `skip` or `raise`.
        max_image_pixels: Bound on a picture's width x height.

    Raises:
        ValueError: If a number is out of range, or there are fewer shards than ranks.
    """

    def __init__(  # noqa: PLR0913 - each is an option of the config
        self,
        shards: str | Sequence[str],
        *,
        batch_size: int,
        batches_per_epoch: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        on_bad_sample: BadSamplePolicy = "skip",
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        check_policy(on_bad_sample)
        check_max_image_pixels(max_image_pixels)
        if not 0 <= rank < world_size or batch_size < 1 or batch_size % world_size or batches_per_epoch < 1:
            raise ValueError(
                "expected 0 <= rank < world_size, a batch_size that world_size divides and batches_per_epoch >= 1, "
                f"got {rank}, {world_size}, {batch_size} and {batches_per_epoch}"
            )
        self.shards = tuple(expand_braces(shards))
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch
        self.rank, self.world_size = rank, world_size
        self.on_bad_sample: BadSamplePolicy = on_bad_sample
        self.max_image_pixels = max_image_pixels
        self.order = SampleOrder([len(self.shards)], seed=seed, shuffle=shuffle)
        self._require_shards(world_size, "processes")
        # In shared memory, so that workers that live on see the next epoch and their faults are counted here.
        self._position = shared_zeros(2)
        self._num_bad = shared_zeros(len(self.shards))
        log.warning(
            "%d shards are read as streams: a resumed run reads exactly the remaining samples only at the same world "
            "size and number of workers",
            len(self.shards),
        )

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return self.batches_per_epoch

    @property
    def num_bad(self) -> int:
        """Faults met so far by all workers of this process, each shard's counted once."""
        return int(self._num_bad.sum())

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of another epoch; that of the present one stays where it was resumed."""
        if epoch != self._position[0]:
            self.resume(epoch, 0)

    def resume(self, epoch: int, cursor: int) -> None:
        """Goes behind the batches of an epoch that consumed `cursor` samples.

        Raises:
            ValueError: If the cursor does not stand between two batches: the batch size has changed.
        """
        if cursor % self.batch_size or not 0 <= cursor <= self.batch_size * self.batches_per_epoch:
            raise ValueError(f"cannot resume a stream at cursor {cursor} with batches of {self.batch_size} samples")
        self._position[:] = torch.tensor([epoch, cursor])

    def __iter__(self) -> Iterator[SampleBatch]:
        """Yields this worker's batches of the epoch; a loader takes one of each worker in turn.

        Raises:
            ValueError: If there are fewer shards than workers on all ranks, or none of this worker's has a good sample.
        """
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        self._require_shards(self.world_size * num_workers, "processes x workers")
        epoch, cursor = self._position.tolist()
        trained = cursor // self.batch_size
        first = (trained + worker) % num_workers  # worker 0 is asked first, and owes batch `trained`
        samples = self._endless(epoch, self.rank + self.world_size * first, self.world_size * num_workers)
        for number in range(first, self.batches_per_epoch, num_workers):
            batch = tuple(islice(samples, self.batch_size // self.world_size))
            if number >= trained:
                yield SampleBatch(batch, epoch, (number + 1) * self.batch_size)

    def _endless(self, epoch: int, first: int, step: int) -> Iterator[Sample]:
        mine = self.order.epoch(epoch)[first::step].tolist()
        while True:
            num_samples = 0
            for shard in mine:
                for sample in self._read(shard):
                    num_samples += 1
                    yield sample
            if not num_samples:
                raise ValueError(f"no readable sample in {[self.shards[shard] for shard in mine]}: see the log")

    def _read(self, shard: int) -> Iterator[Sample]:
        num_bad = 0
        for entry in read_stream(self.shards[shard], self.max_image_pixels):
            if not isinstance(entry, Fault):
                yield entry
                continue
            num_bad += 1
            if num_bad > self._num_bad[shard]:  # not named before, in an earlier pass
                handle_fault(entry, self.on_bad_sample)
                self._num_bad[shard] = num_bad

    def _require_shards(self, count: int, of: str) -> None:
        if len(self.shards) < count:
            raise ValueError(f"{len(self.shards)} shards cannot feed {count} {of}: make more shards, or use fewer")
