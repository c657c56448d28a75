"""Robust statistics of a number that is noisy from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MAD_TO_DEVIATION = 1.4826
"""Standard deviations per median absolute deviation, where the noise is normal."""


@dataclass(frozen=True)
class Level:
    """Where a number lies and how much it scatters."""

    middle: float
    """Median."""
    scatter: float
    """Median absolute deviation, in standard deviations."""


def level(values: Sequence[float]) -> Level:
    """Returns the level of values, of which up to a half may be outliers.

    Args:
        values: At least one; those that are not finite are left out, and without any the level is NaN.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Level(math.nan, math.nan)
    middle = median(finite)
    return Level(middle, MAD_TO_DEVIATION * median(abs(value - middle) for value in finite))


class Series:
    """The last values of a number, split into the most recent ones and the reference before them."""

    def __init__(self, num_recent: int, num_reference: int, values: Sequence[float] = ()) -> None:
        """Starts with earlier values.

        Args:
            num_recent: Values that tell how things are.
            num_reference: Values before these, at most, that tell how things were.
            values: Earlier ones, oldest first.
        """
        self.num_recent = num_recent
        self.num_reference = num_reference
        self.values = list(values)

    def add(self, value: float) -> None:
        """Adds a value, and forgets the oldest."""
        self.values = [*self.values, value][-(self.num_recent + self.num_reference) :]

    def recent(self) -> Level:
        """Returns the level of the most recent values."""
        return level(self.values[-self.num_recent :])

    def reference(self) -> Level:
        """Returns the level before them; NaN where there is none yet."""
        return level(self.values[: -self.num_recent])
