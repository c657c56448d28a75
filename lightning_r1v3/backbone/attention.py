"""The one attention function that we register with transformers: attention as the row's layout says.

A packed row holds many sequences. Instead of a dense `[T, T]` mask, its layout knows which runs of tokens see which,
and the decoder layers reach it through the keyword `layout` that transformers passes on to its attention functions.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface

ATTENTION_NAME = "r1v3_layout"


class AttentionLayout(Protocol):
    """Which tokens of a row see which."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, /) -> Tensor:
        """Returns `[T, heads, head_dim]` for query `[T, heads, head_dim]`, key and value `[T, kv_heads, head_dim]`."""
        ...


def layout_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    layout: AttentionLayout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention over one packed row, in the signature of transformers' attention functions.

    Args:
        module: The decoder layer's attention, for its `layer_idx`.
        query: `[1, heads, T, head_dim]`, rotary positions applied.
        key: `[1, kv_heads, T, head_dim]`.
        value: `[1, kv_heads, T, head_dim]`.
        attention_mask: None: the layout is the mask.
        scaling: Factor of the scores; 1/sqrt(head_dim) by default.
        layout: The row's layout.
        options: Dropout and sliding windows, off: `check_supported` refuses models that have them.

    Returns:
        `[1, T, heads, head_dim]`, and None for the weights.
    """
    assert layout is not None, "a model with our attention runs through Backbone, which passes the row's layout"
    assert attention_mask is None, "the layout is the mask"
    assert not options.get("dropout"), "packed attention has no dropout"
    assert options.get("sliding_window") is None, "packed attention has no sliding window"
    layer: int = module.layer_idx  # type: ignore[assignment]
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layout.attend(layer, query, key, value, scale)[None], None


AttentionInterface.register(ATTENTION_NAME, layout_attention)
