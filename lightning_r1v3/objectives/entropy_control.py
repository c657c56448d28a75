"""Clip-Cov and KL-Cov: holding back the few tokens that drive entropy down (2505.22617).

A policy's entropy falls by the covariance between the log-probability of its tokens and their advantages; a small share
of tokens carries most of it. The paper blames the same mechanism, let loose by Clip-Higher, for its collapse (5.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

KL_COV_COEFFICIENT = 1.0
"""Weight of the log-ratio penalty on the chosen tokens (the source's value)."""


def token_covariance(logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Returns each token's part of cov(log p, advantage) over the masked tokens, `[B, T]`, detached, 0 outside."""
    weights = mask.float()
    count = weights.sum().clamp(min=1)
    logprobs = logprobs.detach()
    centred_logprobs = logprobs - (logprobs * weights).sum() / count
    centred_advantages = advantages - (advantages * weights).sum() / count
    return (centred_logprobs * centred_advantages).masked_fill(~mask, 0.0)


def cut_covariance(
    objective: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, fraction: float | None
) -> Tensor:
    """Returns the objective `[B, T]` with the gradient cut at the share `fraction` of tokens of highest covariance.

    Deviation from the source: it draws them at random between two absolute bounds that it tunes per model; the highest
    are a deterministic choice within any such bounds.
    """
    chosen = _highest(token_covariance(logprobs, advantages, mask), mask, fraction)
    return torch.where(chosen, objective.detach(), objective)


def kl_cov_penalty(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, fraction: float | None
) -> Tensor:
    """Returns `[B, T]`: |log ratio| to the old policy on the share `fraction` of highest covariance, 0 elsewhere."""
    chosen = _highest(token_covariance(logprobs, advantages, mask), mask, fraction)
    return KL_COV_COEFFICIENT * (logprobs - old_logprobs).abs() * chosen


def _highest(values: Tensor, mask: Tensor, fraction: float | None) -> Tensor:
    count = int((fraction or 0.0) * int(mask.sum()))
    if count == 0:
        return torch.zeros_like(mask)
    indices = values.masked_fill(~mask, float("-inf")).flatten().topk(count).indices
    return torch.zeros_like(mask).flatten().index_fill_(0, indices, True).view_as(mask)
