"""Vision inputs of several prompts, joined into those of one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

TILED_DIMENSIONS = 5
"""Of LLaVA-OneVision's pixels `[pictures, tiles, channels, height, width]`."""


def join_vision(inputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Returns the vision inputs of several prompts as one, joined along their first axis.

    Where pictures are `[pictures, tiles, ...]`, they are filled up with zero tiles to the largest number of tiles; the
    model leaves those out again.
    """
    return {key: _join([vision[key] for vision in inputs]) for key in (inputs[0] if inputs else ())}


def _join(tensors: Sequence[Tensor]) -> Tensor:
    if tensors[0].dim() < TILED_DIMENSIONS:
        return torch.cat(list(tensors))
    most = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([pad(tensor, (0, 0) * 3 + (0, most - tensor.shape[1])) for tensor in tensors])
