"""Drawing tokens: which may be drawn, and from which random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import ProcessorMixin

from lightning_r1v3.types import Example, Sampling

BAN = -1e30
"""Added to the logits of a banned token: finite, so that probability times log-probability stays 0 and not NaN."""


def ban_bias(processor: ProcessorMixin, vocabulary: int, banned_strings: Sequence[str] = ()) -> Tensor:
    """Returns float32 `[vocabulary]`: 0, and `BAN` for tokens that must never be drawn.

    Those are image placeholders and every other special token but the end of turn, ids that the tokenizer does not
    know, and tokens that hold a banned string.
    """
    tokenizer = processor.tokenizer
    bias = torch.zeros(vocabulary)
    bias[len(tokenizer) :] = BAN
    specials = [i for i in tokenizer.all_special_ids if i != tokenizer.eos_token_id]
    bias[torch.tensor(specials, dtype=torch.int64)] = BAN
    if banned_strings:
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        held = [i for i, text in enumerate(texts) if any(banned in text for banned in banned_strings)]
        bias[torch.tensor(held, dtype=torch.int64)] = BAN
    return bias


def uniforms(prompts: Sequence[Example], sampling: Sampling, *, step: int) -> Tensor:
    """Returns float64 `[P·G, max_new_tokens]` in [0, 1): a pure function of seed, step and each prompt's id."""
    rows = []
    for prompt in prompts:
        text = f"{sampling.seed}/{step}/{prompt.sample.source}/{prompt.sample.id}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(sampling.group_size, sampling.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.cat(rows)


def draw(logits: Tensor, uniform: Tensor, *, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draws one token per row by inverting the cumulated distribution.

    Args:
        logits: float32 `[B, V]`, temperature and bans applied.
        uniform: float64 `[B]` in [0, 1).
        top_p: Mass of the most likely tokens to draw from.

    Returns:
        int64 `[B]` tokens and float32 `[B]` their log-probabilities under the distribution drawn from.
    """
    logprobs = logits.log_softmax(dim=-1)
    if top_p < 1.0:
        logprobs = _nucleus(logprobs, top_p)
    cumulated = logprobs.double().exp_().cumsum_(dim=-1)
    total = cumulated[:, -1:]
    # Below the total even when the product rounds up to it: else the last token would be drawn, banned or not.
    target = torch.minimum(uniform.to(total.device)[:, None] * total, total.nextafter(torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulated, target, right=True)
    return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def _nucleus(logprobs: Tensor, top_p: float) -> Tensor:
    """Log-probabilities renormalised over the smallest set of likeliest tokens with at least `top_p` mass."""
    ordered, indices = logprobs.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    dropped = torch.zeros_like(logprobs, dtype=torch.bool).scatter_(1, indices, mass_before >= top_p)
    return logprobs.masked_fill(dropped, float("-inf")).log_softmax(dim=-1)
