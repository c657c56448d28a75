"""An order in which the difficulties follow one another by training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_r1v3.data.order import random_bits


class CurriculumOrder:
    """Which sample stands at which position of an epoch, when the difficulties to draw from change with the step.

    A pure function of (seed, epoch). A phase may name several difficulties, and then mixes them in proportion to their
    samples; a switch from normal to hard problems alone hurt in the paper (5.3).

    Args:
        difficulties: Of each sample.
        phases: From which training step on which difficulties are drawn; the first step is 0.
        batch_size: Samples of a step.
        seed: Of the permutations, at least 0.

    Raises:
        ValueError: If no phase starts at 0, or one of them has no sample.
    """

    def __init__(
        self, difficulties: Sequence[str], phases: Mapping[int, Sequence[str]], batch_size: int, *, seed: int = 0
    ) -> None:
        if 0 not in phases or min(phases) < 0:
            raise ValueError(f"data.curriculum: expected steps from 0 on, got {sorted(phases)}")
        self._starts = sorted(phases)
        known = np.asarray(difficulties)
        self._pools = [np.flatnonzero(np.isin(known, list(phases[start]))) for start in self._starts]
        for start, pool in zip(self._starts, self._pools, strict=True):
            if not len(pool):
                raise ValueError(
                    f"data.curriculum: no sample has a difficulty of {list(phases[start])}; there are "
                    f"{np.unique(known).tolist()}"
                )
        self._length, self._batch_size, self._seed = len(known), batch_size, seed

    def __len__(self) -> int:
        """Returns the number of positions of an epoch."""
        return self._length

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Returns int64 `[len]`: the number of the sample at each position."""
        begin = epoch * self._length
        positions = np.arange(begin, begin + self._length, dtype=np.int64)
        order = np.empty(self._length, dtype=np.int64)
        bounds = [start * self._batch_size for start in self._starts] + [begin + self._length]
        for phase, pool in enumerate(self._pools):
            inside = (positions >= bounds[phase]) & (positions < max(bounds[phase], bounds[phase + 1]))
            order[inside] = pool[self._drawn(phase, len(pool), positions[inside] - bounds[phase])]
        return order

    def _drawn(self, phase: int, size: int, turns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The phase's samples at some turns; each pass over them is a permutation of its own."""
        passes, places = np.divmod(turns, size)
        drawn = np.empty_like(turns)
        for number in np.unique(passes).tolist():
            permutation = np.argsort(random_bits(size, self._seed, phase, number), kind="stable")
            drawn[passes == number] = permutation[places[passes == number]]
        return drawn
