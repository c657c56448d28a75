"""Importance ratios between the policy that learns and the one that drew the tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Importance = Literal["token", "sequence"]


def log_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, importance: Importance) -> Tensor:
    """Returns log(pi / pi_old) `[B, T]`, 0 outside the mask.

    Args:
        logprobs: `[B, T]`, of the policy that learns.
        old_logprobs: `[B, T]`, of the policy before this episode's steps, detached.
        mask: bool `[B, T]`.
        importance: `token` (eq. 7), or `sequence`: every token gets its completion's mean, with the gradient shared out
            (GSPO).
    """
    per_token = (logprobs - old_logprobs).masked_fill(~mask, 0.0)
    if importance == "token":
        return per_token
    mean = per_token.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    own = logprobs - logprobs.detach()
    # The value is the sequence's ratio; the gradient flows through each token's own log-probability.
    return (mean.detach() + own).masked_fill(~mask, 0.0)


def truncated_importance_weights(
    logprobs: Tensor, rollout_logprobs: Tensor | None, mask: Tensor, truncate_ratio: float | None
) -> Tensor:
    """Returns min(pi_learner / pi_rollout, truncate_ratio) `[B, T]`, detached: corrects another engine's numbers.

    Without a ratio every weight is 1.
    """
    if rollout_logprobs is None or truncate_ratio is None:
        return torch.ones_like(logprobs)
    gap = (logprobs.detach() - rollout_logprobs).masked_fill(~mask, 0.0)
    return gap.exp().clamp(max=truncate_ratio)


def k3_divergence(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Returns the non-negative estimator r - 1 - log r of KL(pi || ref), r = ref / pi, per token.

    Deviation from the paper: eq. 7 writes the plain log-ratio, whose gradient has mean 0 on-policy; k3 has the same
    mean, less variance and a useful gradient, and is what the field's trainers use.
    """
    log_r = ref_logprobs - logprobs
    return torch.expm1(log_r) - log_r
