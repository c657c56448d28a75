"""The settings of the policy loss, as they stand in a YAML."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_r1v3.objectives.advantages import Normalise
from lightning_r1v3.objectives.losses import Aggregation
from lightning_r1v3.objectives.ratios import Importance


@dataclass(frozen=True)
class PolicyLoss:
    """Options of `grpo_loss` and of the advantages; the defaults are the paper's (3.3)."""

    clip_low: float = 0.2
    """The ratio is clipped at 1 - clip_low."""
    clip_high: float = 0.2
    """… and at 1 + clip_high; larger than `clip_low` is Clip-Higher (5.5)."""
    aggregation: Aggregation = "sequence"
    """`sequence` (eq. 7), `token` (DAPO) or `constant` (Dr. GRPO)."""
    importance: Importance = "token"
    """`token` (eq. 7) or `sequence` (GSPO)."""
    normalise: Normalise = "std"
    """Of the advantages: `std` (eq. 6) or `none` (Dr. GRPO)."""
    kl_coef: float = 0.0
    """Factor of the divergence from the policy that the run started with (eq. 7's beta; the paper trains without)."""
    entropy_coef: float = 0.0
    """Factor of an entropy bonus."""
    top_entropy_fraction: float | None = None
    """Train only on this share of tokens, the most uncertain (2506.01939)."""
    clip_cov_fraction: float | None = None
    """Cut the gradient of this share of tokens (Clip-Cov, 2505.22617)."""
    kl_cov_fraction: float | None = None
    """Penalise this share of tokens (KL-Cov, 2505.22617)."""
    truncate_ratio: float | None = None
    """Cap of the weights that correct for another engine's log-probabilities."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A clip, a coefficient or a share is out of range.
        """
        if not 0 < self.clip_low < 1 or not self.clip_high > 0:
            raise ValueError(f"expected clip_low in (0, 1) and clip_high > 0, got {self.clip_low}, {self.clip_high}")
        if self.kl_coef < 0:
            raise ValueError(f"kl_coef: expected at least 0, got {self.kl_coef}")
        for name in ("top_entropy_fraction", "clip_cov_fraction", "kl_cov_fraction"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}: expected a share in (0, 1] or null, got {share}")
