"""Tensors packed into few large buffers: each message has a fixed price, which hundreds of small ones would pay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import prod

import torch
from torch import Tensor

BUCKET_BYTES = 4 * 2**20
"""A bucket is closed once it is this large: then a message's fixed price does not show."""

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
    """Returns the buckets of some tensors, in order; a pure function of them, so sender and receiver agree."""
    buckets: list[Bucket] = []
    held: list[TensorSpec] = []
    offsets: list[int] = []
    size = 0
    for spec in specs:
        held.append(spec)
        offsets.append(size)
        size += -(-spec.num_bytes // _ALIGNMENT) * _ALIGNMENT
        if size >= bucket_bytes:
            buckets.append(Bucket(tuple(held), tuple(offsets), size))
            held, offsets, size = [], [], 0
    if held:
        buckets.append(Bucket(tuple(held), tuple(offsets), size))
    return buckets


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


def filled(buckets: Sequence[Bucket], tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Tensor]:
    """Yields each bucket's buffer, uint8 `[num_bytes]`, with the tensors in it, for the time of `NUM_IN_FLIGHT` more.

    Raises:
        ValueError: A tensor is not the one that was planned.
    """
    coming = iter(tensors)
    # Fresh memory costs more than the copy into it. A tensor that fills a bucket alone is sent from where it lies.
    shared = max((bucket.num_bytes for bucket in buckets if not bucket.is_one_tensor), default=0)
    memories = cycle([torch.empty(shared, dtype=torch.uint8) for _ in range(NUM_IN_FLIGHT + 1)])
    for bucket, memory in zip(buckets, memories, strict=False):
        if bucket.is_one_tensor:
            yield _bytes_of(bucket.specs[0], *next(coming))
        else:
            yield fill(bucket, memory[: bucket.num_bytes], coming)


def fill(bucket: Bucket, buffer: Tensor, tensors: Iterator[tuple[str, Tensor]]) -> Tensor:
    """Copies a bucket's tensors, which are the next to come, into a buffer, uint8 `[num_bytes]`; returns it.

    Raises:
        ValueError: A tensor is not the one that was planned.
    """
    for spec, offset in zip(bucket.specs, bucket.offsets, strict=True):
        buffer[offset : offset + spec.num_bytes] = _bytes_of(spec, *next(tensors))
    return buffer


def _bytes_of(spec: TensorSpec, name: str, tensor: Tensor) -> Tensor:
    if (name, tensor.dtype, tuple(tensor.shape)) != (spec.name, spec.dtype, spec.shape):
        raise ValueError(f"expected {spec}, got {name!r}, {tensor.dtype}, {tuple(tensor.shape)}")
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
