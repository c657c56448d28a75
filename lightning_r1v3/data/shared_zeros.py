"""Counters that a loader's workers and the trainer share."""

from __future__ import annotations

import torch
from torch import Tensor


def shared_zeros(size: int) -> Tensor:
    """Returns int64 zeros `[size]` in shared memory: what a worker, forked or spawned, writes is seen by all."""
    zeros = torch.zeros(size, dtype=torch.int64)
    zeros.share_memory_()
    return zeros
