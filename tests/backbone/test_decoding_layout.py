from __future__ import annotations

import torch
from torch import Tensor

from lightning_r1v3.backbone.decoding_layout import DecodingLayout
from lightning_r1v3.backbone.packed_layout import PackedLayout
from lightning_r1v3.types import Segment

PROMPTS = (3, 5)
GROUP_SIZE, STEPS = 2, 70  # more steps than the cache has room for at first, and after it grew once
LEAVES_AT = {20: [0, 2, 3], 50: [1, 2]}  # rows that stay, among those that were there before
HEADS, KV_HEADS, WIDTH = 4, 2, 8


def random(num_tokens: int, heads: int, seed: int) -> Tensor:
    return torch.randn(num_tokens, heads, WIDTH, generator=torch.Generator().manual_seed(seed))


def qkv(num_tokens: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(random(num_tokens, heads, 3 * seed + i) for i, heads in enumerate((HEADS, KV_HEADS, KV_HEADS)))


def test_steps_attend_as_the_whole_completion_does() -> None:
    prompts = (Segment(0, 3), Segment(3, 5))
    layout = DecodingLayout(PackedLayout(prompts), 2, GROUP_SIZE)
    prompt_qkv = qkv(8, seed=0)
    out = layout.attend(0, *prompt_qkv, 0.3)
    torch.testing.assert_close(out, PackedLayout(prompts).attend(0, *prompt_qkv, 0.3))
    layout.start_completions(torch.device("cpu"))
    completions = [qkv(STEPS, seed=1 + c) for c in range(4)]
    running, outs = [0, 1, 2, 3], {c: [] for c in range(4)}
    for step in range(STEPS):
        if step in LEAVES_AT:
            layout.keep(torch.tensor(LEAVES_AT[step]))
            running = [running[row] for row in LEAVES_AT[step]]
        tokens = (torch.stack([completions[c][i][step] for c in running]) for i in range(3))
        for completion, out in zip(running, layout.attend(0, *tokens, 0.3), strict=True):
            outs[completion].append(out)
    for completion, steps in outs.items():
        prompt = completion // GROUP_SIZE
        segments = (*prompts, Segment(8, len(steps), prompt))
        row = (
            torch.cat([whole, own[: len(steps)]])
            for whole, own in zip(prompt_qkv, completions[completion], strict=True)
        )
        torch.testing.assert_close(torch.stack(steps), PackedLayout(segments).attend(0, *row, 0.3)[8:])
    assert [len(outs[c]) for c in range(4)] == [50, 20, 70, 70]
