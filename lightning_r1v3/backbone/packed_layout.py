"""Attention of a packed row: causal within each segment, and over the whole prefix that a segment continues.

With flash-attention the row is one variable-length call (its causal mask is aligned to the end of the keys, which is
what a continued prefix needs). Without it each segment is one call of torch's SDPA. Neither builds a `[T, T]` mask.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lightning_r1v3.types import Segment


class _VarlenIndex(NamedTuple):
    """What the variable-length kernel asks for beside query, key and value."""

    keys: Tensor | None
    """int64: row indices of the keys that the segments see, one segment after the other; None where it is the row."""
    query_bounds: Tensor
    """int32 `[S + 1]`."""
    key_bounds: Tensor
    """int32 `[S + 1]`."""
    longest_query: int
    longest_key: int


class PackedLayout:
    """Layout of a row of segments."""

    def __init__(self, segments: tuple[Segment, ...], *, flash: bool = False) -> None:
        """Stores the layout.

        Args:
            segments: The row's segments in order; a prefix is an earlier segment without a prefix of its own.
            flash: Use flash-attention's variable-length kernel (fp16 or bf16 on a GPU).
        """
        self.segments = segments
        self.flash = flash
        self._longest_continuation = max((s.length for s in segments if s.prefix is not None), default=0)
        # Both serve every layer of the model, and the layers that gradient checkpointing runs again.
        self._masks: dict[tuple[int, torch.device], Tensor] = {}
        self._varlen: dict[torch.device, _VarlenIndex] = {}

    def attend(self, _layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, /) -> Tensor:
        """Returns `[T, heads, head_dim]`; see `AttentionLayout`."""
        if self.flash:
            return self._attend_varlen(query, key, value, scale)
        # Split, not sliced: the backward pass of a slice is a whole row of zeros.
        lengths = [segment.length for segment in self.segments]
        queries, keys, values = (tensor.transpose(0, 1).split(lengths, dim=1) for tensor in (query, key, value))
        grouped_query = query.shape[1] != key.shape[1]
        attended = []
        for segment, own_query, own_key, own_value in zip(self.segments, queries, keys, values, strict=True):
            mask, seen_keys, seen_values = None, own_key, own_value
            if segment.prefix is not None:
                mask = self._continuation_mask(segment.length, self.segments[segment.prefix].length, query.device)
                seen_keys = torch.cat([keys[segment.prefix], own_key], dim=1)
                seen_values = torch.cat([values[segment.prefix], own_value], dim=1)
            out = scaled_dot_product_attention(
                own_query[None],
                seen_keys[None],
                seen_values[None],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=grouped_query,
            )
            attended.append(out[0].transpose(0, 1))
        return torch.cat(attended)

    def _continuation_mask(self, length: int, prefix_length: int, device: torch.device) -> Tensor:
        """Bool `[length, prefix_length + length]`: the whole prefix, and own tokens up to the query.

        A view of the longest continuation's, so that a row holds one mask per length of prefix.
        """
        key = (prefix_length, device)
        if key not in self._masks:
            longest = self._longest_continuation
            ones = torch.ones(longest, prefix_length + longest, dtype=torch.bool, device=device)
            self._masks[key] = ones.tril_(prefix_length)
        return self._masks[key][:length, : prefix_length + length]

    def _attend_varlen(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        from flash_attn import flash_attn_varlen_func  # noqa: PLC0415 (an optional dependency)

        index = self._varlen_index(query.device)
        out: Tensor = flash_attn_varlen_func(
            query,
            key if index.keys is None else key[index.keys],
            value if index.keys is None else value[index.keys],
            cu_seqlens_q=index.query_bounds,
            cu_seqlens_k=index.key_bounds,
            max_seqlen_q=index.longest_query,
            max_seqlen_k=index.longest_key,
            softmax_scale=scale,
            causal=True,
        )
        return out

    def _varlen_index(self, device: torch.device) -> _VarlenIndex:
        if device not in self._varlen:
            prefixes = [None if s.prefix is None else self.segments[s.prefix] for s in self.segments]
            seen = [(p, s) if p is not None else (s,) for p, s in zip(prefixes, self.segments, strict=True)]
            spans = [torch.arange(s.start, s.start + s.length) for s in itertools.chain(*seen)]
            queries, keys = [s.length for s in self.segments], [sum(s.length for s in spans_) for spans_ in seen]
            self._varlen[device] = _VarlenIndex(
                keys=torch.cat(spans).to(device) if any(prefixes) else None,
                query_bounds=_bounds(queries, device),
                key_bounds=_bounds(keys, device),
                longest_query=max(queries),
                longest_key=max(keys),
            )
        return self._varlen[device]


def _bounds(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
