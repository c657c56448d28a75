"""Position ids of a packed row: each sequence starts at 0, a continuation goes on from its prefix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lightning_r1v3.types import TokenBatch


def packed_positions(model: PreTrainedModel, batch: TokenBatch, *, axes: int, image_token_id: int) -> Tensor:
    """Returns the row's rotary positions.

    Args:
        model: The transformers model with `get_rope_index`; used only where `axes` is 3.
        batch: The row.
        axes: 1, or 3 for (time, height, width) positions.
        image_token_id: Id of the expanded image placeholder.

    Returns:
        int64 `[1, T]` for one axis, `[3, 1, T]` for three.
    """
    grids = iter(batch.vision.get("image_grid_thw", ()))
    spans: list[Tensor] = []
    for segment in batch.segments:
        start = 0 if segment.prefix is None else int(spans[segment.prefix].max()) + 1
        tokens = batch.token_ids[segment.start : segment.start + segment.length]
        is_image = tokens == image_token_id if axes > 1 else None
        if is_image is None or not is_image.any():
            own = torch.arange(start, start + segment.length, device=tokens.device).expand(axes, -1)
        else:
            assert start == 0, "pictures stand in prompts only"
            own = _vision_positions(model, tokens, is_image, grids)
        spans.append(own)
    row = torch.cat(spans, dim=1)
    return row if axes == 1 else row[:, None]


def _vision_positions(model: PreTrainedModel, tokens: Tensor, is_image: Tensor, grids: Iterator[Tensor]) -> Tensor:
    """`[3, length]` of one sequence with pictures, by the model's own rule; takes its pictures' grids."""
    merge: int = model.config.vision_config.spatial_merge_size**2
    remaining, own_grids = int(is_image.sum()), []
    while remaining:
        own_grids.append(next(grids))
        remaining -= int(own_grids[-1].prod()) // merge
    positions, _ = model.get_rope_index(  # type: ignore[operator]
        tokens[None], is_image.int()[None], image_grid_thw=torch.stack(own_grids)
    )
    return positions[:, 0]  # type: ignore[no-any-return]
