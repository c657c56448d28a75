"""The clipped policy-gradient loss of GRPO (paper, eq. 7) and its variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_r1v3.objectives.entropy_control import cut_covariance, kl_cov_penalty
from lightning_r1v3.objectives.ratios import Importance, k3_divergence, log_ratios, truncated_importance_weights

Aggregation = Literal["sequence", "token", "constant"]


@dataclass(frozen=True)
class LossOutput:
    """A loss and what there is to know about it."""

    loss: Tensor
    """Scalar; summed over micro-batches and ranks it is the loss of the global batch."""
    metrics: dict[str, Tensor]
    """Detached sums over this micro-batch's tokens, and `num_tokens`: divide the totals of a step by its total."""


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ref_logprobs: Tensor | None = None,
    kl_coef: float = 0.0,
    aggregation: Aggregation = "sequence",
    importance: Importance = "token",
    rollout_logprobs: Tensor | None = None,
    truncate_ratio: float | None = None,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
    top_entropy_fraction: float | None = None,
    clip_cov_fraction: float | None = None,
    kl_cov_fraction: float | None = None,
    max_length: int | None = None,
    denominator: float | Tensor | None = None,
) -> LossOutput:
    """Returns the negated objective of eq. 7. PPO (eq. 5) is this loss with advantages given per token.

    Args:
        logprobs: `[B, T]` nats, of the sampled tokens under the policy that learns.
        old_logprobs: `[B, T]`, before this episode's steps; with one step per episode `logprobs.detach()`.
        advantages: `[B]` (eq. 6) or `[B, T]`.
        completion_mask: bool `[B, T]`, True on completion tokens.
        clip_low: The ratio is clipped below at 1 - clip_low (paper 3.3: 0.2).
        clip_high: … above at 1 + clip_high; larger than `clip_low` is Clip-Higher (5.5).
        ref_logprobs: `[B, T]`, of the frozen reference, for the k3 divergence.
        kl_coef: beta of eq. 7 (0).
        aggregation: Mean of completions' token means (eq. 7), of all tokens (DAPO), or sum by B·max_length (Dr. GRPO).
        importance: `token` (eq. 7) or `sequence` (GSPO).
        rollout_logprobs: `[B, T]`, as the engine that drew the tokens gave them.
        truncate_ratio: Weight each token by min(old / rollout, truncate_ratio).
        entropy: `[B, T]` nats.
        entropy_coef: Factor of the entropy bonus, subtracted from the loss.
        top_entropy_fraction: Train only on this share of the call's tokens, the most uncertain (2506.01939).
        clip_cov_fraction: Detach this share of tokens, those of the highest covariance (Clip-Cov, 2505.22617).
        kl_cov_fraction: Penalise this share of tokens (KL-Cov, 2505.22617).
        max_length: For `constant`.
        denominator: The *global* completions, tokens or B·max_length; by default this call's own.

    Raises:
        ValueError: Shapes that do not fit, or an option without the tensor that it needs.
    """
    _check(locals())
    mask = completion_mask
    advantages = advantages if advantages.dim() == 2 else advantages[:, None].expand_as(logprobs)
    log_ratio = log_ratios(logprobs, old_logprobs, mask, importance)
    objective = _clipped(log_ratio.exp(), advantages, clip_low, clip_high)
    objective = objective * truncated_importance_weights(old_logprobs, rollout_logprobs, mask, truncate_ratio)
    objective = cut_covariance(objective, logprobs, advantages, mask, clip_cov_fraction)
    objective = objective - kl_cov_penalty(logprobs, old_logprobs, advantages, mask, kl_cov_fraction)
    objective = objective + _regularisation(logprobs, ref_logprobs, kl_coef, entropy, entropy_coef)
    trained = _most_uncertain(entropy, mask, top_entropy_fraction)
    loss = -_aggregate(objective, mask, trained, aggregation, max_length, denominator)
    return LossOutput(loss, _metrics(log_ratio, advantages, mask, clip_low, clip_high, logprobs, ref_logprobs))


def _regularisation(
    logprobs: Tensor, ref_logprobs: Tensor | None, kl_coef: float, entropy: Tensor | None, entropy_coef: float
) -> Tensor:
    """Divergence from the reference and the entropy bonus, `[B, T]`."""
    divergence = 0.0 if ref_logprobs is None else k3_divergence(logprobs, ref_logprobs)
    bonus = 0.0 if entropy is None else entropy
    return torch.zeros_like(logprobs) + entropy_coef * bonus - kl_coef * divergence


def _clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """The pessimistic one of the plain and the clipped surrogate, `[B, T]`."""
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def _aggregate(
    objective: Tensor,
    mask: Tensor,
    trained: Tensor,
    aggregation: Aggregation,
    max_length: int | None,
    denominator: float | Tensor | None,
) -> Tensor:
    kept = objective.masked_fill(~trained, 0.0)
    if aggregation == "sequence":
        total = (kept.sum(dim=1) / trained.sum(dim=1).clamp(min=1)).sum()
        own: float | Tensor = mask.any(dim=1).sum()
    elif aggregation == "token":
        total, own = kept.sum(), trained.sum()
    else:
        total, own = kept.sum(), len(mask) * (max_length or mask.shape[1])
    count = own if denominator is None else denominator
    return total / torch.as_tensor(count, dtype=total.dtype, device=total.device).clamp(min=1)


def _most_uncertain(entropy: Tensor | None, mask: Tensor, fraction: float | None) -> Tensor:
    if fraction is None or entropy is None or not mask.any():
        return mask
    threshold = torch.quantile(entropy.detach()[mask], 1 - fraction)
    return mask & (entropy.detach() >= threshold)


def _metrics(
    log_ratio: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    logprobs: Tensor,
    ref_logprobs: Tensor | None,
) -> dict[str, Tensor]:
    log_ratio, weights = log_ratio.detach(), mask.float()
    ratio = log_ratio.exp()
    low, high = (ratio < 1 - clip_low) & (advantages < 0), (ratio > 1 + clip_high) & (advantages > 0)
    kl = {} if ref_logprobs is None else {"kl": (k3_divergence(logprobs.detach(), ref_logprobs) * weights).sum()}
    return kl | {
        "num_tokens": weights.sum(),
        "clip_low_fraction": (low * weights).sum(),
        "clip_high_fraction": (high * weights).sum(),
        "clip_fraction": ((low | high) * weights).sum(),
        "approx_kl": ((torch.expm1(log_ratio) - log_ratio) * weights).sum(),
        "ratio": (ratio * weights).sum(),
    }


def _check(given: dict[str, object]) -> None:
    logprobs, mask, advantages = given["logprobs"], given["completion_mask"], given["advantages"]
    assert isinstance(logprobs, Tensor)
    assert isinstance(mask, Tensor)
    assert isinstance(advantages, Tensor)
    if logprobs.dim() != 2 or mask.shape != logprobs.shape or mask.dtype != torch.bool:
        found = f"{[*logprobs.shape]}, {[*mask.shape]} {mask.dtype}"
        raise ValueError(f"expected logprobs and a bool mask [B, T], got {found}")
    if advantages.shape not in {logprobs.shape, logprobs.shape[:1]}:
        raise ValueError(f"expected advantages [B] or [B, T] of {[*logprobs.shape]}, got {[*advantages.shape]}")
    for name in ("old_logprobs", "ref_logprobs", "rollout_logprobs", "entropy"):
        tensor = given[name]
        if isinstance(tensor, Tensor) and tensor.shape != logprobs.shape:
            raise ValueError(f"expected {name} {[*logprobs.shape]}, got {[*tensor.shape]}")
    needs = {"kl_coef": "ref_logprobs", "truncate_ratio": "rollout_logprobs", "entropy_coef": "entropy"}
    for option, tensor_name in (needs | {"top_entropy_fraction": "entropy"}).items():
        if given[option] and given[tensor_name] is None:
            raise ValueError(f"{option}={given[option]} needs {tensor_name}")
