"""Small tensors packed into large buffers: each message has a fixed price, which hundreds of them would pay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

BUCKET_BYTES = 2**17
"""A message of this size takes about as long as to copy it at both ends: larger tensors travel alone."""

NUM_IN_FLIGHT = 3
"""Buckets that are on their way at a time: a link that waits for the next one is idle."""

_ALIGNMENT = 16
"""Tensors start at multiples of this, so that a buffer can be read as any dtype."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to come."""

    name: str
    """Its parameter's name."""
    dtype: torch.dtype
    """Of its elements."""
    shape: tuple[int, ...]
    """Whole, not a shard's."""

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Bucket:
    """Tensors that travel together."""

    specs: tuple[TensorSpec, ...]
    """In the order in which they come."""
    offsets: tuple[int, ...]
    """First byte of each in the buffer."""
    num_bytes: int
    """Size of the buffer."""

    @property
    def is_one_tensor(self) -> bool:
        """Whether its buffer is a tensor and nothing else."""
        return self.num_bytes == self.specs[0].num_bytes

    def views(self, buffer: Tensor) -> list[tuple[str, Tensor]]:
        """Returns names and tensors, which share the buffer's memory (uint8 `[num_bytes]`)."""
        return [
            (spec.name, buffer[offset : offset + spec.num_bytes].view(spec.dtype).view(spec.shape))
            for spec, offset in zip(self.specs, self.offsets, strict=True)
        ]


def plan_buckets(specs: Iterable[TensorSpec], *, bucket_bytes: int = BUCKET_BYTES) -> list[Bucket]:
    """Returns the buckets of some tensors, in the order in which they are full, if the tensors come one by one.

    A pure function of them, so sender and receiver agree. A large tensor overtakes the small ones that came before it.

    Args:
        specs: In the order in which they come.
        bucket_bytes: From this size on a tensor has a bucket to itself, and one of smaller tensors is closed.
    """
    buckets: list[Bucket] = []
    held: list[TensorSpec] = []
    size = 0
    for spec in specs:
        if spec.num_bytes >= bucket_bytes:
            buckets.append(_bucket([spec]))
            continue
        held.append(spec)
        size += _aligned(spec.num_bytes)
        if size >= bucket_bytes:
            buckets.append(_bucket(held))
            held, size = [], 0
    return [*buckets, _bucket(held)] if held else buckets


def _bucket(specs: Sequence[TensorSpec]) -> Bucket:
    *offsets, end = accumulate((_aligned(spec.num_bytes) for spec in specs), initial=0)
    return Bucket(tuple(specs), tuple(offsets), end)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def memory_of_each(buckets: Iterable[Bucket], memory: Tensor) -> tuple[Tensor, ...]:
    """Returns the part of some memory, uint8, that each bucket takes; one after the other from its beginning on."""
    sizes = [bucket.num_bytes for bucket in buckets]
    parts: tuple[Tensor, ...] = memory[: sum(sizes)].split(sizes)
    return parts


def shares(buckets: Iterable[Bucket], *, max_bytes: int) -> Iterator[list[Bucket]]:
    """Yields the buckets in lists of at most so many bytes, or of one bucket."""
    share: list[Bucket] = []
    for bucket in buckets:
        if share and sum(each.num_bytes for each in share) + bucket.num_bytes > max_bytes:
            yield share
            share = []
        share.append(bucket)
    if share:
        yield share


def own_memories(buckets: Iterable[Bucket]) -> list[Tensor | None]:
    """Returns memory, uint8 `[num_bytes]`, for each bucket that needs some: a lone tensor stays where it lies."""
    return [None if bucket.is_one_tensor else torch.empty(bucket.num_bytes, dtype=torch.uint8) for bucket in buckets]


def filled(
    buckets: Sequence[Bucket], memories: Sequence[Tensor | None], tensors: Iterable[tuple[str, Tensor]]
) -> Iterator[Tensor]:
    """Yields the bytes of each bucket in turn, uint8 `[num_bytes]`.

    Args:
        buckets: As planned.
        memories: For each what its tensors are copied into, or None for a lone tensor that stays where it is.
        tensors: All that were planned; one that comes too early waits.

    Raises:
        ValueError: A tensor is not one that was planned, or is missing.
    """
    places = {
        spec.name: (number, spec, offset)
        for number, bucket in enumerate(buckets)
        for spec, offset in zip(bucket.specs, bucket.offsets, strict=True)
    }
    num_missing = [len(bucket.specs) for bucket in buckets]
    contents = list(memories)
    next_number = 0
    for name, tensor in tensors:
        number, spec, offset = places.get(name, (0, None, 0))
        came = TensorSpec(name, tensor.dtype, tuple(tensor.shape))
        if came != spec:
            raise ValueError(f"expected {spec or 'only what was planned'}, got {came}")
        content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        memory = contents[number]
        if memory is None:
            contents[number] = content
        else:
            memory[offset : offset + spec.num_bytes] = content
        num_missing[number] -= 1
        while next_number < len(buckets) and num_missing[next_number] == 0:
            full, contents[next_number] = contents[next_number], None
            next_number += 1
            assert full is not None, "no tensor of it is missing"
            yield full
    if next_number < len(buckets):
        raise ValueError(f"expected {buckets[next_number].specs}, got no more tensors")
