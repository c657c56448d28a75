"""Which part of a sharded tensor this process holds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def local_slice(tensor: Tensor) -> tuple[slice, ...]:
    """Returns where in the whole tensor this process's part lies; all of it where the tensor is not sharded."""
    if not isinstance(tensor, DTensor):
        return tuple(slice(0, size) for size in tensor.shape)
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))


def is_first_replica(tensor: Tensor) -> bool:
    """Whether this process is the first of those that hold the same part; of a plain tensor that is rank 0."""
    if not isinstance(tensor, DTensor):
        return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None, "every process is in the mesh"
    replicated = (place for place, kind in zip(coordinate, tensor.placements, strict=True) if kind.is_replicate())
    return all(place == 0 for place in replicated)


def overlap(wanted: tuple[slice, ...], stored: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Returns the part of the whole tensor that two parts share; None where they share nothing."""
    shared = tuple(_overlap(one, other) for one, other in zip(wanted, stored, strict=True))
    return None if any(span.start >= span.stop for span in shared) else shared


def relative(part: tuple[slice, ...], origin: tuple[slice, ...]) -> tuple[slice, ...]:
    """Returns a part of the whole tensor as a part of the part that begins at `origin`."""
    return tuple(_shift(span, start.start) for span, start in zip(part, origin, strict=True))


def _overlap(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _shift(span: slice, start: int) -> slice:
    return slice(span.start - start, span.stop - start)
