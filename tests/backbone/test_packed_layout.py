from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_r1v3.backbone.packed_layout import PackedLayout
from lightning_r1v3.types import Segment

# Two groups: a prompt of 5 with completions of 3 and 1, a prompt of 2 with one of 4; a lone sequence of 3 between them.
SEGMENTS = (
    Segment(0, 5),
    Segment(5, 3, 0),
    Segment(8, 1, 0),
    Segment(9, 3),
    Segment(12, 2),
    Segment(14, 4, 4),
)
TOKENS, HEADS, KV_HEADS, WIDTH = 18, 4, 2, 8


def visible() -> Tensor:
    """Bool `[T, T]`, token by token from what the segments mean."""
    mask = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for segment in SEGMENTS:
        for token in range(segment.start, segment.start + segment.length):
            mask[token, segment.start : token + 1] = True
            if segment.prefix is not None:
                prefix = SEGMENTS[segment.prefix]
                mask[token, prefix.start : prefix.start + prefix.length] = True
    return mask


def dense_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor) -> Tensor:
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~mask, float("-inf")).softmax(dim=-1), value)


def varlen_stand_in(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
    """flash-attention's variable-length call: causal masks aligned to the end of the keys."""
    assert options["causal"] is True
    out = []
    bounds = zip(options["cu_seqlens_q"].tolist(), options["cu_seqlens_k"].tolist(), strict=True)
    (q0, k0), *ends = bounds
    for q1, k1 in ends:
        assert q1 - q0 <= options["max_seqlen_q"]
        assert k1 - k0 <= options["max_seqlen_k"]
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - (q1 - q0))
        out.append(dense_attention(query[q0:q1], key[k0:k1], value[k0:k1], options["softmax_scale"], mask))
        q0, k0 = q1, k1
    return torch.cat(out)


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    heads = (HEADS, KV_HEADS, KV_HEADS)
    return tuple(torch.randn(TOKENS, h, WIDTH, generator=generator).requires_grad_() for h in heads)


def test_each_segment_sees_itself_and_its_prefix(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    out = PackedLayout(SEGMENTS).attend(0, *qkv, 0.3)
    torch.testing.assert_close(out, dense_attention(*qkv, 0.3, visible()))


def test_gradients_reach_the_prefix(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    incoming = torch.randn(TOKENS, HEADS, WIDTH, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(PackedLayout(SEGMENTS).attend(0, *qkv, 0.3), qkv, incoming)
    dense = torch.autograd.grad(dense_attention(*qkv, 0.3, visible()), qkv, incoming)
    for mine, reference in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine, reference)


def test_a_row_holds_one_mask_per_length_of_prefix(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    layout = PackedLayout(SEGMENTS)
    layout.attend(0, *qkv, 0.3)
    assert sorted(mask.shape for mask in layout._masks.values()) == [(4, 6), (4, 9)]


def test_flash_attention_is_asked_for_the_same(
    qkv: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=varlen_stand_in))
    out = PackedLayout(SEGMENTS, flash=True).attend(0, *qkv, 0.3)
    torch.testing.assert_close(out, dense_attention(*qkv, 0.3, visible()))


def test_without_prefixes_flash_attention_gets_the_row_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    stand_in = SimpleNamespace(flash_attn_varlen_func=lambda query, key, value, **_: seen.append(key) or query)
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)
    query, key = torch.zeros(5, HEADS, WIDTH), torch.zeros(5, KV_HEADS, WIDTH)
    PackedLayout((Segment(0, 2), Segment(2, 3)), flash=True).attend(0, query, key, key, 0.3)
    assert seen[0] is key
