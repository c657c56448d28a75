"""Spearman's rank correlation with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_QUANTILE = 1.959964
"""Of a two-sided interval of 95 %."""
MIN_POINTS = 4
"""Below this there is no interval: its width has n - 3 in the denominator."""


@dataclass(frozen=True)
class Correlation:
    """A rank correlation; NaN where it is not defined."""

    value: float
    """In [-1, 1]."""
    low: float
    """Lower end of the interval of 95 %."""
    high: float
    """Upper end."""
    num_points: int
    """Pairs that it was computed from."""


def spearman(one: Sequence[float], other: Sequence[float]) -> Correlation:
    """Returns the rank correlation of pairs; ties share their mean rank.

    The interval is Fisher's, with Bonett and Wright's variance (1 + r² / 2) / (n - 3).

    Args:
        one: n values; pairs with a value that is not finite are left out.
        other: n values.
    """
    pairs = [pair for pair in zip(one, other, strict=True) if all(map(math.isfinite, pair))]
    ranks = [_centred_ranks([pair[side] for pair in pairs]) for side in (0, 1)]
    scale = math.sqrt(math.prod(sum(rank * rank for rank in side) for side in ranks))
    if scale == 0:
        return Correlation(math.nan, math.nan, math.nan, len(pairs))
    value = max(-1.0, min(1.0, sum(a * b for a, b in zip(*ranks, strict=True)) / scale))
    if len(pairs) < MIN_POINTS:
        return Correlation(value, math.nan, math.nan, len(pairs))
    if abs(value) == 1:
        return Correlation(value, value, value, len(pairs))
    half_width = NORMAL_QUANTILE * math.sqrt((1 + value * value / 2) / (len(pairs) - 3))
    low, high = (math.tanh(math.atanh(value) + sign * half_width) for sign in (-1, 1))
    return Correlation(value, low, high, len(pairs))


def _centred_ranks(values: Sequence[float]) -> list[float]:
    ranked = sorted(values)
    first = {value: index for index, value in reversed(list(enumerate(ranked)))}
    last = {value: index for index, value in enumerate(ranked)}
    return [(first[value] + last[value] - (len(values) - 1)) / 2 for value in values]
