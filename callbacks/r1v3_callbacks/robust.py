"""Robust statistics of a number that is noisy from step to step: up to a half of the values may be outliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import median

MEDIAN_TO_DEVIATION = 1.4826
"""Standard deviations per median of the absolute values, where the noise is normal."""


def middle(values: Sequence[float]) -> float:
    """Returns the median of those that are finite; NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def scatter(values: Sequence[float]) -> float:
    """Returns the standard deviation of values around wherever they are heading; 0 where there is only one.

    It is taken from the differences of neighbours, in which no trend shows.
    """
    finite = [value for value in values if math.isfinite(value)]
    differences = [abs(later - value) for value, later in pairwise(finite)]
    return MEDIAN_TO_DEVIATION * median(differences) / math.sqrt(2) if differences else 0.0


def trend(values: Sequence[float]) -> float:
    """Returns the rise of a straight line through values, from the first to the last.

    The line is Theil's and Sen's: its slope is the median of those between any two values.

    Args:
        values: Finite, at least two, at equal distances.
    """
    pairs = combinations(enumerate(values), 2)
    return median((later - value) / (end - start) for (start, value), (end, later) in pairs) * (len(values) - 1)
