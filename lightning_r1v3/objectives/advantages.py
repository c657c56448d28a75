"""Advantages relative to a prompt's group of completions (paper, eq. 6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalise = Literal["std", "none"]


def group_relative_advantages(
    rewards: Tensor, group_size: int, *, eps: float = 1e-6, normalise: Normalise = "std"
) -> Tensor:
    """Returns each reward less its group's mean, divided by the group's standard deviation.

    The standard deviation is the sample one (n - 1), as in the implementations that the field compares with. A group of
    equal rewards gives zeros.

    Args:
        rewards: `[B]`, prompt-major: group g is `[g·G, (g + 1)·G)`.
        group_size: G, at least 2, dividing B.
        eps: Added to the standard deviation.
        normalise: `std` (eq. 6), or `none` to leave the scale alone (Dr. GRPO).

    Returns:
        `[B]`, each group summing to 0.

    Raises:
        ValueError: `rewards` is not `[B]`, or does not fall into groups of at least 2.
    """
    if rewards.dim() != 1 or group_size < 2 or len(rewards) % group_size:
        raise ValueError(f"expected rewards [B] in groups of group_size >= 2, got {[*rewards.shape]} and {group_size}")
    if normalise not in {"std", "none"}:
        raise ValueError(f"normalise: expected 'std' or 'none', got {normalise!r}")
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    equal = (groups == groups[:, :1]).all(dim=1, keepdim=True)
    centred = torch.where(equal, torch.zeros_like(centred), centred)
    if normalise == "std":
        centred = centred / (groups.std(dim=1, keepdim=True) + eps)
    return centred.flatten()
