"""What the collapse detector reads of a step, counted so that the parts of several processes add up exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from r1v3_callbacks.collapse_rules import Facts
from r1v3_callbacks.repetition import repeated_fractions


@dataclass(frozen=True)
class FactsPart:
    """What one micro-batch adds to a step."""

    entropy_sum: float
    """Nats, over its tokens."""
    num_tokens: int
    """Number of these."""
    repetition_sum: float
    """Shares of repeated n-grams, over its completions."""
    num_completions: int
    """Number of these."""
    reward_sum: float
    """Over its rewards."""
    num_rewards: int
    """Number of these; 0 where the module returns none."""
    right_sum: float
    """Accuracy, over its completions."""
    num_graded: int
    """Number of these; 0 where the module returns no accuracy."""
    grad_norm: float
    """Before clipping; NaN where it is not known yet."""
    is_finite: bool
    """Whether its loss and entropies are finite."""


def facts_part(
    entropy: Tensor,
    token_ids: Tensor,
    mask: Tensor,
    *,
    loss: float,
    rewards: Tensor | None,
    accuracy: Tensor | None,
    grad_norm: float,
) -> FactsPart:
    """Returns the counts of a micro-batch.

    Args:
        entropy: `[B, T]`, nats.
        token_ids: int64 `[B, T]`.
        mask: bool `[B, T]`.
        loss: Of the micro-batch.
        rewards: `[B]`, or None.
        accuracy: `[B]`, or None.
        grad_norm: Before clipping; NaN where it is not known.
    """
    entropy_sum = float(entropy.detach().double()[mask].sum())
    return FactsPart(
        entropy_sum=entropy_sum,
        num_tokens=int(mask.sum()),
        repetition_sum=float(repeated_fractions(token_ids, mask).sum()),
        num_completions=int(mask.any(dim=1).sum()),
        reward_sum=0.0 if rewards is None else float(rewards.detach().double().sum()),
        num_rewards=0 if rewards is None else len(rewards),
        right_sum=0.0 if accuracy is None else float(accuracy.detach().double().sum()),
        num_graded=0 if accuracy is None else len(accuracy),
        grad_norm=grad_norm,
        is_finite=math.isfinite(entropy_sum) and math.isfinite(loss) and not math.isinf(grad_norm),
    )


def facts_of(parts: Sequence[FactsPart]) -> Facts:
    """Returns the facts of a step.

    Args:
        parts: Of all its micro-batches on all processes. The gradient norm is that of the last micro-batches, and the
            highest of any process.
    """
    num_tokens = sum(part.num_tokens for part in parts)
    num_completions = sum(part.num_completions for part in parts)
    num_rewards = sum(part.num_rewards for part in parts)
    norms = [part.grad_norm for part in parts if not math.isnan(part.grad_norm)]
    return Facts(
        entropy=_mean(sum(part.entropy_sum for part in parts), num_tokens),
        reward=_mean(sum(part.reward_sum for part in parts), num_rewards),
        accuracy=_mean(sum(part.right_sum for part in parts), sum(part.num_graded for part in parts)),
        grad_norm=max(norms, default=math.nan),
        length=_mean(num_tokens, num_completions),
        repetition=_mean(sum(part.repetition_sum for part in parts), num_completions),
        not_finite=float(not all(part.is_finite for part in parts)),
    )


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
