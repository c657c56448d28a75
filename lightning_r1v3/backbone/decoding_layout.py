"""Attention with a key-value cache for groups of completions that share their prompt.

A prompt's keys and values are stored once however many completions continue it. All completions are at the same step,
one token each; those that have ended leave the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_r1v3.backbone.packed_layout import PackedLayout


class DecodingLayout:
    """Layout of first the row of prompts, then of rows with one token per running completion.

    The first pass is over the prompts; then `start_completions`, and a pass per step, with `keep` between steps.
    """

    def __init__(self, prompts: PackedLayout, num_prompts: int, group_size: int) -> None:
        """Starts in the prompt phase.

        Args:
            prompts: Layout of the row of prompts.
            num_prompts: How many leading segments are prompts (a blank picture may follow them).
            group_size: Completions per prompt.
        """
        self.prompts = prompts
        self.segments = prompts.segments[:num_prompts]
        self.group_size = group_size
        self.prompt_phase = True
        self._prompt_kv: dict[int, tuple[Tensor, Tensor]] = {}
        self._own_kv: dict[int, _Cache] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, /) -> Tensor:
        """Returns `[T, heads, head_dim]`; T is the prompts' tokens first, then the number of running completions."""
        if self.prompt_phase:
            self._prompt_kv[layer] = (self._by_prompt(key), self._by_prompt(value))
            return self.prompts.attend(layer, query, key, value, scale)
        return self._attend_step(layer, query, key, value, scale)

    def start_completions(self, device: torch.device) -> None:
        """Ends the prompt phase."""
        self.prompt_phase = False
        lengths = torch.tensor([segment.length for segment in self.segments], device=device)
        self._beyond = torch.arange(int(lengths.max()), device=device) >= lengths[:, None]
        prompts = torch.arange(len(self.segments), device=device)
        self._assign(prompts.repeat_interleave(self.group_size))

    def keep(self, running: Tensor) -> None:
        """Drops the completions that ended.

        Args:
            running: int64, indices of the rows that stay, ascending, at least one.
        """
        self._assign(self._owner[running])
        for cache in self._own_kv.values():
            cache.keep(running)

    def _assign(self, owner: Tensor) -> None:
        """Takes each completion's prompt, int64 `[B]` ascending, and where to find it among its prompt's."""
        counts = torch.bincount(owner, minlength=len(self.segments))
        starts = counts.cumsum(0) - counts
        slot = torch.arange(int(counts.max()), device=owner.device)
        self._owner = owner
        self._is_filler = self._beyond[owner, None, None]  # [B, 1, 1, longest prompt]
        self._place = torch.arange(len(owner), device=owner.device) - starts[owner]
        # A prompt with fewer completions than the widest repeats one; its result is computed and not read.
        repeated = slot.clamp(max=(counts[:, None] - 1).clamp(min=0))
        self._slots = (starts[:, None] + repeated).clamp(max=len(owner) - 1)

    def _attend_step(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        own_key, own_value = self._own_kv.setdefault(layer, _Cache(key)).append(key, value)
        prompt_key, prompt_value = self._prompt_kv[layer]
        repeat = query.shape[1] // key.shape[1]
        grouped = query.unflatten(1, (-1, repeat))  # [B, kv_heads, repeat, head_dim]
        on_prompt = self._with_prompt(grouped, prompt_key.transpose(-1, -2))
        on_prompt = on_prompt.masked_fill(self._is_filler, float("-inf"))
        scores = torch.cat([on_prompt, grouped @ own_key.transpose(-1, -2)], dim=-1)
        weights = (scores * scale).float().softmax(dim=-1).to(query.dtype)
        from_prompt, from_own = weights.split([on_prompt.shape[-1], own_key.shape[2]], dim=-1)
        out: Tensor = self._with_prompt(from_prompt, prompt_value) + from_own @ own_value
        return out.flatten(1, 2)

    def _with_prompt(self, left: Tensor, right: Tensor) -> Tensor:
        """Products of `[B, kv_heads, repeat, X]` with their prompts' `[P, kv_heads, X, Y]`: one product per prompt."""
        by_prompt = left[self._slots].transpose(1, 2).flatten(2, 3)  # [P, kv_heads, slots * repeat, X]
        product: Tensor = (by_prompt @ right).unflatten(2, (-1, left.shape[2])).transpose(1, 2)
        return product[self._owner, self._place]

    def _by_prompt(self, tensor: Tensor) -> Tensor:
        """`[P, kv_heads, longest prompt, head_dim]` of a row `[T, kv_heads, head_dim]`, filled up with zeros."""
        longest = max(segment.length for segment in self.segments)
        spans = [pad(tensor[s.start : s.start + s.length], (0, 0, 0, 0, 0, longest - s.length)) for s in self.segments]
        return torch.stack(spans).transpose(1, 2)


class _Cache:
    """Keys and values of the completions' own tokens in one layer."""

    FIRST_CAPACITY = 32
    """Tokens that there is room for at first; the room doubles whenever it is full."""

    def __init__(self, key: Tensor) -> None:
        batch, kv_heads, head_dim = key.shape
        self.length = 0
        self.key = key.new_empty(batch, kv_heads, self.FIRST_CAPACITY, head_dim)
        self.value = torch.empty_like(self.key)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds a token `[B, kv_heads, head_dim]` and returns all, `[B, kv_heads, length, head_dim]`."""
        if self.length == self.key.shape[2]:
            self.key, self.value = (pad(tensor, (0, 0, 0, self.length)) for tensor in (self.key, self.value))
        self.key[:, :, self.length], self.value[:, :, self.length] = key, value
        self.length += 1
        return self.key[:, :, : self.length], self.value[:, :, : self.length]

    def keep(self, running: Tensor) -> None:
        """Drops the rows of the other completions."""
        self.key, self.value = self.key[running], self.value[running]
