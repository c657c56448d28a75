"""One lockstep decoding of some prompts: prompts first, then one token per running completion and step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.backbone.decoding_layout import DecodingLayout
from lightning_r1v3.backbone.packed_layout import PackedLayout
from lightning_r1v3.backbone.packing import pack_prompts
from lightning_r1v3.rollout.draws import draw
from lightning_r1v3.types import Example, Sampling

LEAVE_FRACTION = 0.125
"""Ended completions leave the cache once they are this share of it: leaving copies it, staying computes for nothing."""


class Decoder:
    """State of the completions of some prompts, prompt-major, while they are drawn."""

    def __init__(
        self, backbone: Backbone, prompts: Sequence[Example], sampling: Sampling, *, bias: Tensor, uniforms: Tensor
    ) -> None:
        """Makes room for the completions.

        Args:
            backbone: The model that draws.
            prompts: At least one.
            sampling: How to draw.
            bias: float32 `[V]`, added to the logits.
            uniforms: float64 `[P·G, max_new_tokens]` in [0, 1), one number per token to be drawn.
        """
        device, batch = backbone.device, len(prompts) * sampling.group_size
        self.backbone = backbone
        self.sampling = sampling
        self.bias = bias.to(device)
        self.uniforms = uniforms.to(device)
        self.row = pack_prompts(prompts).to(device)
        self.layout = DecodingLayout(
            PackedLayout(self.row.segments, flash=backbone.flash), len(prompts), sampling.group_size
        )
        self.tokens = torch.zeros(batch, sampling.max_new_tokens, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(batch, sampling.max_new_tokens, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.ended = torch.zeros(batch, dtype=torch.bool, device=device)
        self.running = torch.arange(batch, device=device)

    def run(self) -> None:
        """Draws until every completion ended or is `max_new_tokens` long."""
        logits, next_position = self._read_prompts()
        for t in range(self.sampling.max_new_tokens):
            drawn = self._draw(logits, t)
            still = (~self.ended[self.running]).nonzero()[:, 0]
            if not len(still) or t + 1 == self.sampling.max_new_tokens:
                return
            if len(still) <= (1 - LEAVE_FRACTION) * len(self.running):
                self.layout.keep(still)
                self.running, drawn = self.running[still], drawn[still]
            positions = self._step_positions(next_position[self.running] + t)
            logits = self._logits(self.backbone.hidden_states(drawn, positions, self.layout, {}))

    def _read_prompts(self) -> tuple[Tensor, Tensor]:
        """Logits `[B, V]` of each completion's first token, and its position `[B]`."""
        positions = self.backbone.positions(self.row)
        hidden = self.backbone.hidden_states(self.row.token_ids, positions, self.layout, self.row.vision)
        last = torch.tensor([s.start + s.length - 1 for s in self.row.segments], device=hidden.device)
        after = torch.stack([positions[..., s.start : s.start + s.length].amax() + 1 for s in self.row.segments])
        self.layout.start_completions(hidden.device)
        group_size = self.sampling.group_size
        logits = self._logits(hidden[last]).repeat_interleave(group_size, dim=0)
        return logits, after.repeat_interleave(group_size)

    def _draw(self, logits: Tensor, t: int) -> Tensor:
        """Draws token t of the running completions; of those that ended but did not leave yet it is not kept."""
        running = self.running
        drawn, logprobs = draw(logits, self.uniforms[running, t], top_p=self.sampling.top_p)
        alive = ~self.ended[running]
        self.tokens[running, t] = drawn * alive
        self.logprobs[running, t] = logprobs * alive
        self.lengths[running] += alive
        self.ended[running] |= drawn == self.backbone.processor.tokenizer.eos_token_id
        return drawn

    def _step_positions(self, positions: Tensor) -> Tensor:
        axes = self.backbone.family.position_axes
        return positions[None] if axes == 1 else positions.expand(axes, 1, -1)

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.backbone.model.get_output_embeddings()
        logits: Tensor = head(hidden.to(head.weight.dtype))
        return (logits.float() + self.bias) / self.sampling.temperature
