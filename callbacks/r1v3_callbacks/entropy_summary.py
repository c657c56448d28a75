"""Entropy where reasoning moves start, counted so that the parts of several processes add up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BIN_WIDTH = 0.25
"""Nats, of the histogram over all tokens."""
NUM_BINS = 64
"""Up to 16 nats: the uniform distribution over nine million tokens."""


@dataclass(frozen=True)
class EntropyPart:
    """What one micro-batch adds to a step."""

    critical: list[float] = field(default_factory=list)
    """Nats, at each token that starts a move."""
    after_sum: float = 0.0
    """Nats, over the tokens that follow those."""
    after_count: int = 0
    """Number of these."""
    token_sum: float = 0.0
    """Nats, over all tokens."""
    token_count: int = 0
    """Number of all tokens."""
    histogram: list[int] = field(default_factory=list)
    """Numbers of all tokens by entropy, `NUM_BINS` bins of `BIN_WIDTH` nats, the last one open."""
    high_count: int = 0
    """Tokens above the threshold, where that is known."""
    sample: list[float] = field(default_factory=list)
    """Nats, of the tokens from which the threshold is still to be found; else empty."""


def entropy_part(
    entropy: Tensor, mask: Tensor, starts: Sequence[Sequence[int]], *, num_after: int, threshold: float | None
) -> EntropyPart:
    """Returns the counts of a micro-batch.

    Args:
        entropy: `[B, T]`, nats.
        mask: bool `[B, T]`.
        starts: For each completion the tokens that start a move.
        num_after: Tokens after each of these to look at.
        threshold: Nats, above which a token counts as highly uncertain; None where it is yet to be found.
    """
    entropy = entropy.detach().double().cpu()
    mask = mask.cpu()
    tokens = entropy[mask]
    lengths = mask.sum(dim=1).tolist()
    places = [(row, start) for row, row_starts in enumerate(starts) for start in row_starts]
    after = [entropy[row, start + 1 : min(start + 1 + num_after, lengths[row])] for row, start in places]
    bins = (tokens.nan_to_num(nan=0.0) / BIN_WIDTH).long().clamp(0, NUM_BINS - 1)
    return EntropyPart(
        critical=[float(entropy[place]) for place in places],
        after_sum=float(sum(part.sum() for part in after)),
        after_count=sum(len(part) for part in after),
        token_sum=float(tokens.sum()),
        token_count=len(tokens),
        histogram=torch.bincount(bins, minlength=NUM_BINS).tolist(),
        high_count=0 if threshold is None else int((tokens > threshold).sum()),
        sample=tokens.tolist() if threshold is None else [],
    )


def entropy_metrics(parts: Sequence[EntropyPart], *, prefix: str, quantiles: Sequence[float]) -> dict[str, float]:
    """Returns the metrics of a step; means over nothing are left out.

    Args:
        parts: Of all micro-batches and processes.
        prefix: Of the names, e.g. `train`.
        quantiles: Of the entropy at critical tokens, each in [0, 1].
    """
    name = f"{prefix}/critical_token_entropy"
    critical = torch.tensor([value for part in parts for value in part.critical], dtype=torch.float64)
    metrics = {f"{name}/count": float(len(critical))}
    if len(critical):
        metrics[name] = float(critical.mean())
        metrics |= {f"{name}/q{100 * q:g}": float(critical.quantile(q)) for q in quantiles}
    if num_after := sum(part.after_count for part in parts):
        metrics[f"{name}/after"] = sum(part.after_sum for part in parts) / num_after
    if num_tokens := sum(part.token_count for part in parts):
        metrics[f"{prefix}/token_entropy"] = sum(part.token_sum for part in parts) / num_tokens
        metrics[f"{prefix}/high_entropy_fraction"] = sum(part.high_count for part in parts) / num_tokens
    return metrics
